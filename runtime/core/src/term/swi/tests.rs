//! Datagrams: captured ones, hostile ones, and a round trip through a real SWI-Prolog.

use super::super::samples::{name, renumbered, term};
use super::*;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::Write;
use std::process::{Command, Stdio};

fn datagram(text: &str) -> Vec<u8> {
    [MAGIC, text.as_bytes()].concat()
}

fn sent(text: &str) -> Result<String, String> {
    match read(&datagram(&format!("send({text})"))) {
        Ok(Swi::Send(term)) => Ok(format!("{term:?}")),
        Ok(other) => Ok(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn captured_datagrams_are_read() {
    let captured = b"%-prolog-\nrequest(2805439034389357046,number(_3946))";
    let term = Term::structure("number", [Term::Var(0)]);
    let id = Term::Integer(2_805_439_034_389_357_046);
    assert_eq!(read(captured), Ok(Swi::Request { id, term }));

    let captured = b"%-prolog-\nreply(42,paxos(node(0,1,0)))";
    let node = Term::structure("node", [0, 1, 0].map(Term::Integer));
    let term = Term::structure("paxos", [node]);
    assert_eq!(read(captured), Ok(Swi::Reply { id: Term::Integer(42), term }));
}

#[test]
fn what_swi_writes_is_read_as_what_it_means() {
    for (text, term) in [
        ("f(-1,-(1),-(-(1)),-(a,1))", "'f'(-1,'-'(1),'-'('-'(1)),'-'('a',1))"),
        (":-(a,','(b,c))", "':-'('a',','('b','c'))"),
        ("f(:-,-,'|')", "'f'(':-','-','|')"),
        ("[a|b]", "['a'|'b']"),
        ("[a,b]", "\"ab\""),
        ("'[|]'(1,[2])", "[1,2]"),
        ("\"a\\\"b\\\\c\\n\\u001B\"", "\"a\\\"b\\\\c\\n\\x1b\\\""),
        ("f(\"\",[],'[]')", "'f'([],[],[])"),
        ("f(1r3,-1r3,2r4,4r2)", "'f'('rdiv'(1,3),'rdiv'(-1,3),'rdiv'(1,2),2)"),
        ("f(1.0e+22,1.0e-7,- 1)", "'f'(1.0e22,1.0e-7,'-'(1))"),
        ("f(_123,_G4,_123,_)", "'f'(_0,_1,_0,_2)"),
        ("{x}", "'{}'('x')"),
        ("f(inf,nan)", "'f'('inf','nan')"),
        ("'\\x2603\\'", "'\u{2603}'"),
        ("'\\U0001F600\\s'", "'\u{1f600} '"),
        ("'a\nb\\x1'", "'a\\nb\\x1\\'"),
        ("send(1,2)", "'send'(1,2)"),
    ] {
        assert_eq!(sent(text).as_deref(), Ok(term), "{text}");
    }
    let latin = b"%-prolog-\nsend(f(\xe9,\xd7,\xb2,'\xa0',\xaa\xb5))";
    let Ok(Swi::Send(term)) = read(latin) else { panic!("{:?}", read(latin)) };
    assert_eq!(format!("{term:?}"), "'f'('é','×','²','\\xa0\\','ªµ')");
}

#[test]
fn what_has_no_term_in_scryer_is_refused_by_name() {
    for (text, why) in [
        ("_12{a:1}", "a dict is no ISO Prolog term"),
        ("p{}", "a dict is no ISO Prolog term"),
        ("1.0Inf", "a float that is not finite is no Prolog term"),
        ("-1.0Inf", "a float that is not finite is no Prolog term"),
        ("1.5NaN", "a float that is not finite is no Prolog term"),
        ("foo()", "a compound without arguments: foo() is no Prolog term, foo is"),
        ("'.'(a,b)", "'.'/2 is a list cell in ISO Prolog and none in SWI-Prolog"),
        ("1r0", "a rational with denominator zero"),
        ("`a`", "back-quoted strings are not read"),
    ] {
        let error = sent(text).expect_err(text);
        assert!(error.ends_with(why), "{text}: {error}");
    }
    for other in [&b""[..], b"%prolog\nsend(a)", b"send(a)", b"\x00\xff", b"%-prolog-"] {
        assert_eq!(read(other), Err(SwiError::NotSwi));
    }
    for other in ["a", "send(a,b)", "request(a)", "reply(1,2,3)", "[a]", "_"] {
        assert_eq!(read(&datagram(other)), Err(SwiError::NotAMessage), "{other}");
    }
    assert!(matches!(read(&datagram("send(a")), Err(SwiError::Syntax(_))));
}

#[test]
fn a_datagram_is_no_longer_than_the_network_carries() {
    let text = |len| Swi::Send(Term::string("x".repeat(len)));
    let overhead = "%-prolog-\nsend(\"\")".len();
    let longest = write(&text(MAX_SENT_BYTES - overhead)).map(|d| d.len());
    assert_eq!(longest, Ok(MAX_SENT_BYTES));
    assert_eq!(write(&text(MAX_SENT_BYTES - overhead + 1)), Err(SwiError::TooLong));
    let long = datagram(&format!("send({})", "a".repeat(MAX_RECEIVED_BYTES)));
    assert_eq!(read(&long), Err(SwiError::TooLong));
    let cell = Term::structure("[|]", [Term::EMPTY, Term::EMPTY]);
    assert_eq!(write(&Swi::Send(Term::structure("f", [cell]))), Err(SwiError::ListCell));
}

proptest! {
    #[test]
    fn reading_undoes_writing(id in term(), term in term()) {
        let pair = renumbered(&Term::structure("-", [id, term]));
        let Term::Compound(_, args) = pair else { unreachable!() };
        let [id, term] = <[Term; 2]>::try_from(args).unwrap();
        for message in [
            Swi::Request { id: id.clone(), term: term.clone() },
            Swi::Reply { id: id.clone(), term },
            Swi::Send(renumbered(&id)),
        ] {
            let datagram = write(&message).unwrap();
            prop_assert!(datagram.is_ascii());
            prop_assert_eq!(read(&datagram), Ok(message), "{}", String::from_utf8_lossy(&datagram));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&bytes);
        let _ = read(&[MAGIC, &bytes].concat());
        let _ = read(&[MAGIC, b"send(", &bytes, b")"].concat());
    }
}

/// What SWI-Prolog makes of datagrams, or nothing where there is none installed.
fn echoed(datagrams: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/term/swi/echo.pl");
    let child =
        Command::new("swipl").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        crate::term::samples::skip("swipl is not installed: its datagrams");
        return None;
    };
    let mut lines = Vec::new();
    for datagram in datagrams {
        lines.extend_from_slice(&datagram[MAGIC.len()..]);
        lines.push(b'\n');
    }
    let mut input = child.stdin.take().unwrap();
    let feed = std::thread::Builder::new().spawn(move || input.write_all(&lines)).unwrap();
    let output = child.wait_with_output().unwrap();
    feed.join().unwrap().unwrap();
    let lines = output.stdout.strip_suffix(b"\n").unwrap_or_default().split(|b| *b == b'\n');
    Some(lines.map(|line| [MAGIC, line].concat()).collect())
}

#[test]
fn swi_prolog_reads_what_we_write_and_we_read_what_it_writes() {
    // Beyond ISO-8859-1 nothing can come back, so such terms are left out.
    let latin = |term: &Term| format!("{term:?}").chars().all(|c| u32::from(c) < 256);
    let mut runner = TestRunner::deterministic();
    let mut sample = || term().new_tree(&mut runner).unwrap().current();
    let mut terms: Vec<_> = (0..4000).map(|_| renumbered(&sample())).filter(latin).collect();
    let mut names = TestRunner::deterministic();
    let mut sample = || name().new_tree(&mut names).unwrap().current();
    terms.extend((0..1000).map(|_| Term::atom(sample())).filter(latin));
    terms.extend(["table", "dynamic", "$", "?", "initialization", "|", "dict"].map(Term::atom));
    let datagrams: Vec<_> =
        terms.iter().map(|term| write(&Swi::Send(term.clone())).unwrap()).collect();

    let Some(back) = echoed(&datagrams) else { return };
    assert_eq!(back.len(), terms.len());
    for ((term, there), back) in terms.iter().zip(&datagrams).zip(&back) {
        let there = String::from_utf8_lossy(there);
        let text: String = back.iter().map(|b| char::from(*b)).collect();
        match read(back) {
            Ok(Swi::Send(back)) => assert_eq!(&renumbered(&back), term, "{there} came as {text}"),
            other => panic!("{there} came as {text}: {other:?}"),
        }
    }
}
