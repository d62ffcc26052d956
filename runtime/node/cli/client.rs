//! The control socket from the client's side.
//!
//! A [`Client`] opens a connection for each request, which on a Unix socket costs a tenth of a
//! millisecond; whoever wants more keeps a [`Connection`].

use super::{Failure, Verdict};
use crate::cli::say::say;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::BorrowMut;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use synod::api::ErrorBody;
use synod::control::socket_path;
use tokio::net::UnixStream;

/// Runs a verb that is a client.
pub(crate) fn block_on<T>(verb: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::error(format!("the runtime: {error}")))?.block_on(verb)
}

/// A way to the node of a data folder.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    data: PathBuf,
}

/// Why a request has no answer, or not the one that was hoped for.
#[derive(Debug)]
pub(crate) enum CallError {
    /// No node listens.
    NoNode(Failure),
    /// The node said no.
    Told(ErrorBody),
    /// The connection died. The request may have been carried out.
    Lost(String),
}

impl CallError {
    /// A thing that is not found is no error, but a no.
    pub(crate) fn or_no(self) -> Result<Verdict, Failure> {
        match self {
            Self::Told(error) if error.code == "not_found" => {
                say(format_args!("synod: {}", error.message));
                Ok(Verdict::No)
            }
            error => Err(error.into()),
        }
    }

    /// What to tell of a request that makes the proposal `id`.
    pub(crate) fn of_proposal(self, id: &str) -> Failure {
        match self {
            Self::Lost(why) => Failure::unknown(&why, id),
            told => told.into(),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoNode(failure) => failure,
            CallError::Told(error) => Self::told(error),
            CallError::Lost(why) => {
                Self::error(format!("{why}; see whether it still runs: synod status"))
            }
        }
    }
}

impl Client {
    /// The client of a folder's node, which may run or not.
    pub(crate) fn new(data: &Path) -> Self {
        Self { data: data.to_owned() }
    }

    /// Whether a node listens. A socket that a killed node left behind is no node.
    pub(crate) async fn is_up(&self) -> Result<bool, Failure> {
        match self.open().await {
            Ok(_) => Ok(true),
            Err(Refused::NoNode) => Ok(false),
            Err(Refused::Other(failure)) => Err(failure),
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connection, CallError> {
        self.open().await.map_err(|refused| self.refused(refused))
    }

    /// Posts a body that goes on for as long as the caller likes.
    pub(crate) async fn post_stream<B>(
        &self,
        path: &str,
        body: B,
    ) -> Result<Response<Incoming>, CallError>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let sender = self.handshake().await.map_err(|refused| self.refused(refused))?;
        send(sender, Method::POST, path, "application/cbor-seq", body).await
    }

    fn refused(&self, refused: Refused) -> CallError {
        let data = self.data.display();
        CallError::NoNode(match refused {
            Refused::Other(failure) => failure,
            Refused::NoNode => Failure::error(format!(
                "no node runs on {data}; start one with: synod up --data {data}"
            )),
        })
    }

    async fn open(&self) -> Result<Connection, Refused> {
        Ok(Connection { sender: self.handshake().await? })
    }

    async fn handshake<B>(&self) -> Result<SendRequest<B>, Refused>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let other = |why: String| Refused::Other(Failure::error(why));
        let path = socket_path(&self.data).map_err(|error| other(error.to_string()))?;
        let shown = path.display();
        let stream = UnixStream::connect(&path).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Refused::NoNode,
            ErrorKind::PermissionDenied => {
                other(format!("{shown}: permission denied; it is open to the node's user only"))
            }
            ErrorKind::WouldBlock => {
                other(format!("{shown}: too many clients wait; try again in a moment"))
            }
            _ => other(format!("{shown}: {error}")),
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| other(format!("{shown}: {error}")))?;
        tokio::spawn(connection);
        Ok(sender)
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.connect().await?.call(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CallError> {
        self.connect().await?.call(Method::POST, path, json(body)?).await
    }

    /// Posts, and reads the answer's events.
    pub(crate) async fn post_events<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Events<T>, CallError> {
        let mut connection = self.connect().await?;
        connection.events(Method::POST, path, json(body)?).await
    }

    /// Gets, and leaves the answer's body to be read as it comes.
    pub(crate) async fn get_body(&self, path: &str, accept: &str) -> Result<Incoming, CallError> {
        let mut connection = self.connect().await?;
        Ok(connection.send(Method::GET, path, accept, Bytes::new()).await?.into_body())
    }

    /// Gets, and reads the answer's events.
    pub(crate) async fn get_events<T: DeserializeOwned>(
        &self,
        path: &str,
    ) -> Result<Events<T>, CallError> {
        self.connect().await?.events(Method::GET, path, Bytes::new()).await
    }
}

enum Refused {
    NoNode,
    Other(Failure),
}

/// One connection, for one request after another.
#[derive(Debug)]
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// One request, and its answer as JSON.
    pub(crate) async fn call<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, CallError> {
        let answer = self.send(method, path, "application/json", body).await?;
        json_of(answer.into_body()).await
    }

    async fn events<T: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Events<T>, CallError> {
        let answer = self.send(method, path, "text/event-stream", body).await?;
        Ok(Events {
            body: answer.into_body(),
            buffer: BytesMut::new(),
            scanned: 0,
            of: PhantomData,
        })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        accept: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        send(&mut self.sender, method, path, accept, Full::new(body)).await
    }
}

async fn send<B>(
    mut sender: impl BorrowMut<SendRequest<B>>,
    method: Method,
    path: &str,
    accept: &str,
    body: B,
) -> Result<Response<Incoming>, CallError>
where
    B: Body + 'static,
{
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "synod")
        .header(ACCEPT, accept)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| CallError::Lost(error.to_string()))?;
    let answer = sender.borrow_mut().send_request(request).await.map_err(lost)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(lost)?.to_bytes();
    Err(match serde_json::from_slice(&body) {
        Ok(error) => CallError::Told(error),
        Err(_) => CallError::Lost(format!("the node answered with HTTP status {status}")),
    })
}

/// Server-sent events, one JSON value in each.
#[derive(Debug)]
pub(crate) struct Events<T> {
    body: Incoming,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of an event.
    scanned: usize,
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> Events<T> {
    /// The next event; nothing if the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, CallError> {
        loop {
            if let Some(event) = self.take_event() {
                let data = event.strip_prefix(b"data: ").unwrap_or(&event);
                return serde_json::from_slice(data).map(Some).map_err(garbled);
            }
            match self.body.frame().await {
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(CallError::Lost("the node broke off".to_owned())),
                Some(Err(error)) => return Err(lost(error)),
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        self.buffer.extend_from_slice(&chunk);
                    }
                }
            }
        }
    }

    /// The node writes one `data:` line an event, and an empty line after it.
    fn take_event(&mut self) -> Option<BytesMut> {
        let from = self.scanned.saturating_sub(1);
        let end = self.buffer[from..].windows(2).position(|two| two == b"\n\n");
        let Some(end) = end else {
            self.scanned = self.buffer.len();
            return None;
        };
        self.scanned = 0;
        let event = self.buffer.split_to(from + end);
        self.buffer.advance(2);
        Some(event)
    }
}

/// A body that is JSON.
pub(crate) async fn json_of<T: DeserializeOwned>(body: Incoming) -> Result<T, CallError> {
    let body = body.collect().await.map_err(lost)?.to_bytes();
    serde_json::from_slice(&body).map_err(garbled)
}

fn json(value: &impl Serialize) -> Result<Bytes, CallError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(garbled)
}

fn lost(error: hyper::Error) -> CallError {
    CallError::Lost(format!("the node did not answer ({error})"))
}

fn garbled(error: serde_json::Error) -> CallError {
    CallError::Lost(format!("the node and this command do not speak alike ({error})"))
}

/// A name as a path's segment or a query's value (RFC 3986 §2.1).
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_for_paths() {
        assert_eq!(encode("bank-2.a_b~c"), "bank-2.a_b~c");
        assert_eq!(encode("a/b?é %"), "a%2Fb%3F%C3%A9%20%25");
    }
}
