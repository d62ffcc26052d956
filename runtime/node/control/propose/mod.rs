//! `POST /v1/propose`: transactions for clients that want speed, many in flight on one connection.
//!
//! The request's body and the answer's are CBOR sequences (RFC 8742) that go on for as long as the
//! client likes, both at once. In CDDL (RFC 8610):
//!
//! ```cddl
//! requests = (hello, *proposal)          ; one CBOR sequence
//! hello    = [label: tstr .size (0..255)] ; opens a session; its events are `From` label
//!          / [session: uint]              ; goes on with one that this client opened before
//! proposal = [
//!   seq: uint .gt 0,                     ; counted by the client from 1; one number, one transaction
//!   acked: uint,                         ; outcomes up to this number are no longer asked for
//!   draft: bstr .cborseq draft,
//! ]
//! draft = [                              ; these four, as a sequence
//!   version: uint,                       ; the index at which it read; 0 if it read nothing
//!   reads: [*uint],                      ; the keys that it read, strictly ascending
//!   predicates: [*[name: tstr, arity: uint]], ; retracted from, in the order of first use
//!   ops: [*op],
//! ]
//! op = [0, fact: any]                    ; assertz
//!    / [1, fact: any]                    ; asserta
//!    / [2, predicate: uint, order: int]  ; retract; `predicate` is a place in `predicates`
//!    / [3, event: any]                   ; emit
//!
//! answers = (opened / ended, *answer, ?ended) ; one CBOR sequence
//! opened  = [0, session: uint]
//! ended   = [0, code: tstr, text: tstr]  ; the stream cannot go on; the last item
//! answer  = [seq: uint, 0, index: uint]  ; committed, on disk and applied here
//!         / [seq: uint, 1, code: tstr, text: tstr] ; refused: this number can never commit
//!         / [seq: uint, 2, text: tstr]   ; not proposed: may be sent again under its number
//! ```
//!
//! Facts and events are in the term codec. An answer comes as soon as its transaction has ended:
//! in the order of the log for those that commit, between them whatever was refused earlier. No
//! more than [`MAX_IN_FLIGHT`] proposals are taken in before one is answered: then the rest waits
//! in the socket. A client that has ended its body gets the answers that are due, and the end.
//!
//! A stream that breaks off leaves what it has not answered unknown: the client says `[session]` on
//! another, and sends it again, byte for byte. What was committed keeps its index.

mod exchange;
mod wire;

use super::error::ApiError;
use super::routes::InSpace;
use crate::node::Node;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use exchange::Exchange;

/// Proposals of one stream that are under way at once, at most.
pub const MAX_IN_FLIGHT: usize = 1024;
/// Bytes of one proposal's draft, at most.
pub const MAX_DRAFT_BYTES: usize = synod_core::command::MAX_COMMAND_BYTES;

/// Answers at once; the exchange is the answer's body.
pub(super) async fn propose(
    State(node): State<Node>,
    query: Result<Query<InSpace>, QueryRejection>,
    requests: Body,
) -> Result<Response, ApiError> {
    let Query(InSpace { space }) = query?;
    let proposer = node.proposer(space.as_deref())?;
    let answers = Body::new(Exchange::new(requests, proposer));
    Ok(([(CONTENT_TYPE, "application/cbor-seq")], answers).into_response())
}
