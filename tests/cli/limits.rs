//! Clients that send too much, too slowly, or all at once.

use crate::SHOP;
use crate::http::{Raw, request};
use crate::world::{World, wait_for};
use serde_json::Value;
use std::time::Instant;
use synod::control::limits::{BODY_BYTES, HEAD_TIME, MAX_CONNECTIONS, MAX_REQUESTS};

#[test]
fn a_body_that_is_too_large_is_refused() {
    let world = World::new();
    let node = world.up(&[]);
    let code = |(status, body): (u16, Vec<u8>)| {
        let body: Value = serde_json::from_slice(&body).unwrap();
        (status, body["code"].as_str().unwrap().to_owned())
    };
    let mut raw = Raw::connect(&world.data);
    raw.request("POST", "/v1/broadcast", vec![b' '; BODY_BYTES + 1]);
    assert_eq!(code(raw.answer()), (413, "too_large".to_owned()));

    // One that does not say how long it is.
    let mut raw = Raw::connect(&world.data);
    raw.send("POST /v1/broadcast HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
    for _ in 0..BODY_BYTES / (1 << 16) + 1 {
        raw.send(&chunk);
    }
    assert_eq!(code(raw.answer()), (413, "too_large".to_owned()));

    // One that promises more than it sends is waited for no longer than it may take.
    let mut raw = Raw::connect(&world.data);
    raw.send("POST /v1/broadcast HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{}");
    raw.send(vec![b' '; BODY_BYTES]);
    assert_eq!(code(raw.answer()), (413, "too_large".to_owned()));

    let mut raw = Raw::connect(&world.data);
    raw.send(format!("GET /v1/status HTTP/1.1\r\nhost: {}", "x".repeat(1 << 20)));
    let said = raw.closed();
    assert!(said.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&said));
    node.get("/v1/status");
}

#[test]
fn a_client_that_is_slow_is_not_waited_for() {
    let world = World::new();
    let node = world.up(&[]);
    let started = Instant::now();
    let mut head = Raw::connect(&world.data);
    head.send("GET /v1/sta");
    let mut body = Raw::connect(&world.data);
    body.send("POST /v1/session HTTP/1.1\r\nhost: x\r\ncontent-length: 20\r\n\r\n{\"label\":");
    let mut idle = Raw::connect(&world.data);
    idle.request("GET", "/v1/agents", "");
    assert_eq!(idle.answer(), (200, b"[]".to_vec()));
    // Others are served meanwhile.
    node.get("/v1/status");
    assert!(started.elapsed() < HEAD_TIME);

    let (status, said) = body.answer();
    let said: Value = serde_json::from_slice(&said).unwrap();
    assert_eq!((status, &said["code"]), (408, &"slow".into()), "{said}");
    head.closed();
    assert_eq!(idle.closed(), b"");
    assert!(started.elapsed() >= HEAD_TIME);
}

#[test]
fn more_requests_than_there_is_room_for_are_told_so() {
    let world = World::new();
    let node = world.up_with("shop", SHOP);
    let follow = || {
        let mut raw = Raw::connect(&world.data);
        raw.request("GET", "/v1/agents/shop/logs?follow=true", "");
        assert_eq!(raw.answer().0, 200);
        raw
    };
    let mut streams: Vec<Raw> = std::iter::repeat_with(follow).take(MAX_REQUESTS).collect();
    let agents = || request(&world.data, "GET", "/v1/agents", "");
    let (status, said) = agents();
    assert_eq!((status, &said["code"]), (503, &"busy".into()), "{said}");
    let ran = world.run(["agent", "list"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with("synod: ") && ran.stderr.contains("try again"), "{ran:?}");
    // Who looks after the node still gets through.
    node.get("/v1/status");
    streams.pop();
    wait_for("room", || agents().0 == 200);
}

#[test]
fn connections_beyond_the_bound_wait_for_their_turn() {
    let world = World::new();
    let _node = world.up(&[]);
    let mut open: Vec<Raw> =
        std::iter::repeat_with(|| Raw::connect(&world.data)).take(MAX_CONNECTIONS + 40).collect();
    for raw in &mut open {
        raw.request("GET", "/v1/agents", "");
    }
    // The first ones keep their connections until they have read their answers.
    while !open.is_empty() {
        let mut raw = open.remove(0);
        assert_eq!(raw.answer(), (200, b"[]".to_vec()));
    }
}
