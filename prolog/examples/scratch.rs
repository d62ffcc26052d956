#![allow(missing_docs, clippy::all)]
use scryer_prolog::*;
use std::io::Write;
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/statm").unwrap();
    s.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}
fn main() {
    let mode = std::env::args().nth(1).unwrap();
    let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    let (mut input, inputc) = InputStreamConfig::channel();
    let env = mode == "env";
    let mut buf: Vec<u8> = Vec::with_capacity(1 << 16);
    buf.extend_from_slice(b"abcdef=x\0");
    unsafe {
        libc::putenv(buf.as_mut_ptr() as *mut _);
    }
    let mut calls = 0u64;
    let out = OutputStreamConfig::callback(Box::new(move |c| {
        let req = std::mem::take(c.get_mut());
        c.set_position(0);
        calls += 1;
        if calls < 4 {
            eprintln!("{:?}", String::from_utf8_lossy(&req));
        }
        let reply = b"[account('alice',100),'.'].";
        if env {
            buf.truncate(7);
            buf.extend_from_slice(reply);
            buf.push(0);
        } else {
            input.write_all(reply).unwrap();
        }
        *c.get_mut() = req;
        c.get_mut().clear();
    }));
    let t = std::time::Instant::now();
    let mut m = MachineBuilder::default()
        .with_streams(StreamConfig::default().with_user_input(inputc).with_user_output(out))
        .build();
    eprintln!("boot {:?} rss {}", t.elapsed(), rss());
    let text = if env {
        "host(R,A) :- '$write_term'(user_output, abcdef(R), true, false, true, [], 0, false), '$getenv'(abcdef, Cs), '$read_from_chars'(Cs, T), A = T."
    } else {
        "host(R,A) :- '$write_term'(user_output, abcdef(R), true, false, true, [], 0, false), '$get_n_chars'(user_input, 100000000, Cs), '$read_from_chars'(Cs, T), A = T."
    };
    let prog = format!(
        ":- module(t,[host/2,loop/1,empty/1]).\n:- use_module(library(between)).\n{text}\nloop(N) :- between(1,N,I), host(find(account(I,_)),[account(_,X)|_]), X =:= 101. loop(_). empty(N) :- between(1,N,I), I =:= 0. empty(_)."
    );
    m.load_module_string("t", prog);
    let r: Vec<_> = m.run_query("use_module(library(t)).").collect();
    eprintln!("{r:?}");
    for _ in 0..3 {
        let t = std::time::Instant::now();
        let r: Vec<_> = m.run_query(format!("t:loop({n}).")).collect();
        eprintln!("{r:?} {:?} a call, rss {}", t.elapsed() / n as u32, rss());
        let t = std::time::Instant::now();
        let _: Vec<_> = m.run_query(format!("t:empty({n}).")).collect();
        eprintln!(" empty {:?}", t.elapsed() / n as u32);
    }
}
