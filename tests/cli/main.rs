//! The command line and the control socket, on the real program: what users type and see, and what
//! clients that are broken send.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api_page;
mod http;
mod limits;
mod log;
mod propose;
mod pty;
mod repl;
mod requests;
mod run;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod verbs;
mod watch;
#[allow(dead_code, reason = "another test binary uses the rest of it")]
#[path = "../node/world.rs"]
mod world;

/// A program with facts, a transaction, and something to print.
const SHOP: &str = "
:- use_module(library(synod)).
:- use_module(library(lists)).
:- replicated(stock/2).

on(start) :- write(open), nl.
on(event(_, From, arrived(Item, N))) :-
    (   retract(stock(Item, N0)) -> true ; N0 = 0 ),
    N1 is N0 + N,
    assertz(stock(Item, N1)),
    write(arrived(From, Item, N1)), nl.

sell(Item, N) :-
    transaction((retract(stock(Item, N0)), N0 >= N, N1 is N0 - N, assertz(stock(Item, N1)))).

for_ever :- repeat, fail.

count(0).
count(N) :- count(N0), N is N0 + 1.
";
