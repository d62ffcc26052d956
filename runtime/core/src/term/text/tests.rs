//! The reader: what it takes, what it refuses and where, and its bounds.

use super::super::{MAX_ARITY, MAX_DEPTH, MAX_TERM_BYTES, MAX_TEXT_BYTES};
use super::*;
use proptest::prelude::*;

fn canonical(text: &str) -> Result<String, SyntaxError> {
    let mut out = String::new();
    write(&read(text, Dialect::Scryer)?, &mut out, WriteOptions::CANONICAL);
    Ok(out)
}

/// What the text reads as, or the place and the message of the error.
fn shown(text: &str) -> String {
    canonical(text).unwrap_or_else(|e| e.to_string())
}

#[test]
fn terms_are_read_as_scryer_reads_them() {
    for (text, term) in [
        ("- 1.", "-1"),
        ("f(- 1)", "'f'(-1)"),
        ("a - 1", "'-'('a',1)"),
        ("a -1", "'-'('a',1)"),
        ("- (1)", "'-'(1)"),
        ("-(1)", "'-'(1)"),
        ("- - 1", "'-'(-1)"),
        ("1 - -1", "'-'(1,-1)"),
        ("[](a)", "'[]'('a')"),
        ("{}(a)", "'{}'('a')"),
        ("{ }", "'{}'"),
        ("[ ]", "[]"),
        ("{a,b}", "'{}'(','('a','b'))"),
        ("f(:-, a)", "'f'(':-','a')"),
        ("[-|T]", "['-'|_0]"),
        ("[a,b|[c|[d]]]", r#""abcd""#),
        ("[1,b|[c|D]]", "[1,'b','c'|_0]"),
        ("'.'(a,'.'(b,[]))", r#""ab""#),
        ("'.'(1,'.'(b,X))", "[1,'b'|_0]"),
        (r#"'.'(a,"bc")"#, r#""abc""#),
        ("'.'(a)", "'.'('a')"),
        (r#""""#, "[]"),
        ("- a ^ b", "'-'('^'('a','b'))"),
        ("-1^2", "'^'(-1,2)"),
        ("-(1)^2", "'^'('-'(1),2)"),
        ("- (1)^2", "'-'('^'(1,2))"),
        ("a:b:c", "':'('a',':'('b','c'))"),
        ("1-2-3", "'-'('-'(1,2),3)"),
        ("2^3^4", "'^'(2,'^'(3,4))"),
        (r"p :- \+ a, b", r"':-'('p',','('\\+'('a'),'b'))"),
        (":- a", "':-'('a')"),
        ("a ',' b", "','('a','b')"),
        ("- ( - )", "'-'('-')"),
        ("X = +", "'='(_0,'+')"),
        ("- = x", "'='('-','x')"),
        ("f(A,_,A,_B,_)", "'f'(_0,_1,_0,_2,_3)"),
        ("X is 1 rdiv 3", "'is'(_0,'rdiv'(1,3))"),
        ("1_000", "1000"),
        ("1_ 000", "1000"),
        ("1_0.5", "10.5"),
        ("0'a", "97"),
        ("0'''", "39"),
        ("0' ", "32"),
        (r"0'\x41\", "65"),
        ("0x1F + 0o17 + 0b101", "'+'('+'(31,15),5)"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775809", "-9223372036854775809"),
        ("1.0e10", "10000000000.0"),
        ("1.5E-7", "1.5e-7"),
        ("-0.0", "0.0"),
        ("'a''b'", r"'a\'b'"),
        (r#""a""b""#, r#""a\"b""#),
        ("'a\\\nb\\n\\101\\\\x41\\'", r"'ab\nAA'"),
        ("/* c */ a % d\n .", "'a'"),
        ("a.% c", "'a'"),
        ("É", "_0"),
        ("ª", "'ª'"),
        ("a\u{301}²", "'a\u{301}²'"),
        ("'\u{a0}\0'", r"'\xa0\\x0\'"),
        ("a= \n(b:-c)", "'='('a',':-'('b','c'))"),
    ] {
        assert_eq!(shown(text), term, "{text}");
    }
}

#[test]
fn what_is_no_term_is_refused_with_its_place() {
    for (text, error) in [
        ("", "line 1, column 1: the text ends inside a term"),
        ("f(a,\n  b", "line 2, column 4: the text ends inside a term"),
        ("f(a. b)", "line 1, column 4: the text ends inside a term"),
        ("a. b", "line 1, column 4: text follows the term"),
        (
            "foo()",
            "line 1, column 5: a compound without arguments: foo() is no Prolog term, foo is",
        ),
        ("f(,)", "line 1, column 3: unexpected ,, a term expected"),
        ("f (a)", "line 1, column 3: unexpected (, an operator or a closing bracket expected"),
        ("X(a)", "line 1, column 2: unexpected (, an operator or a closing bracket expected"),
        ("(a|b)", "line 1, column 3: unexpected |, an operator or a closing bracket expected"),
        ("[a|b,c]", "line 1, column 5: operator , needs parentheses here"),
        ("f(a:-b)", "line 1, column 4: operator :- needs parentheses here"),
        ("a = b = c", "line 1, column 7: operator = needs parentheses here"),
        (r"a = \+ b", r"line 1, column 5: operator \+ needs parentheses here"),
        ("a b", "line 1, column 3: unexpected b, an operator expected"),
        ("a 'b\nc'", "line 1, column 3: missing ' at the end of a quoted item"),
        (r"'\e'", "line 1, column 3: unknown escape sequence"),
        (r"'\xD800\'", "line 1, column 3: unknown escape sequence"),
        ("1.0e999", "line 1, column 1: a float that is not finite is no Prolog term"),
        ("1_a", "line 1, column 2: malformed number"),
        ("`a`", "line 1, column 1: back-quoted strings are not read"),
        ("é \u{1f600}", "line 1, column 3: unexpected character '\u{1f600}'"),
        ("/* a", "line 1, column 1: the text ends inside a term"),
        (")", "line 1, column 1: unexpected ), a term expected"),
    ] {
        assert_eq!(shown(text), error, "{text}");
    }
}

/// Pieces of text that meet in odd ways.
const PIECES: &[&str] = &[
    "a", "(", ")", "[", "]", "{", "}", ",", "|", "-", "+", ":-", "=", "1", "1.5", "X", "_", "'.'(",
    "f(", "\"s\"", " ", ".", "\\+", "'", "\"", "\\", "0'", "rdiv", "1r3", "/*", "%", "\n",
];

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String, swi: bool) {
        let _ = read(&text, if swi { Dialect::Swi } else { Dialect::Scryer });
    }

    #[test]
    fn text_that_nearly_is_a_term_is_read_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..24),
    ) {
        let text = pieces.concat();
        let _ = read(&text, Dialect::Swi);
        if let Ok(term) = read(&text, Dialect::Scryer) {
            let again = canonical(&text).unwrap();
            prop_assert_eq!(read(&again, Dialect::Scryer), Ok(term), "{}", text);
        }
    }
}

#[test]
fn the_bounds_hold_and_nothing_overflows() {
    let nested = |open: &str, close: &str, n| open.repeat(n) + "a" + &close.repeat(n);
    let fault = |text: &str| read(text, Dialect::Scryer).map_err(|e| e.what).map(|_| ());
    let run = move || {
        for (open, close) in [("f(", ")"), ("{", "}"), ("- ", ""), ("[1,", "]"), ("1-(", ")")] {
            assert_eq!(fault(&nested(open, close, MAX_DEPTH)), Ok(()), "{open}");
            let deeper = nested(open, close, MAX_DEPTH + 1);
            assert_eq!(fault(&deeper), Err(Fault::TooDeep), "{open}");
            assert!(fault(&nested(open, close, 100_000)).is_err(), "{open}");
        }
        // Brackets and cells do not nest the term, and are read in linear time.
        assert_eq!(fault(&nested("(", ")", 100_000)), Ok(()));
        assert_eq!(fault(&nested("'.'(1,", ")", 200_000)), Ok(()));
        assert_eq!(fault(&nested("[1|", "]", 200_000)), Ok(()));
        assert_eq!(fault(&format!("[{}1]", "1,".repeat(300_000))), Ok(()));
        assert_eq!(fault(&"(".repeat(MAX_TERM_BYTES + 1)), Err(Fault::TooLong));
        assert_eq!(fault(&" ".repeat(MAX_TEXT_BYTES + 1)), Err(Fault::TooLong));
        assert_eq!(fault(&"9".repeat(200_000)), Err(Fault::IntegerTooLong));
        let args = vec!["a"; MAX_ARITY + 1].join(",");
        assert!(matches!(fault(&format!("f({args})")), Err(Fault::Refused(_))));
        assert_eq!(fault(&format!("f({})", &args[2..])), Ok(()));
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(run).unwrap().join().unwrap();
}
