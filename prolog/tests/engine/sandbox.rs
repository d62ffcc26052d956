//! What a program may touch.

use super::node::{Node, Options, error_of};
use synod_prolog::frame::*;

crate::tests! {
    programs_cannot_be_started
    sockets_cannot_be_opened
    files_cannot_be_written_unless_allowed
    files_can_be_read_in_the_programs_folder_only
    everything_is_open_without_a_sandbox
}

const PROGRAM: &str = "
:- use_module(library(synod)).
:- use_module(library(os)).
:- use_module(library(files)).
:- use_module(library(sockets)).
:- use_module(library(process)).
write_file(F) :- open(F, write, S), write(S, hello), close(S).
read_file(F, T) :- open(F, read, S), read(S, T), close(S).
";

fn node(sandbox: Sandbox) -> Node {
    let mut options = Options::side();
    options.sandbox = sandbox;
    options.files.push(("data.txt", "hello.".into()));
    Node::start(PROGRAM, options)
}

fn closed() -> Sandbox {
    Sandbox { on: true, read: vec![], write: vec![], net: false }
}

fn has_landlock() -> bool {
    // The version of landlock, asked for with its own flag; an error where there is none.
    // SAFETY: with this flag the call takes no pointer.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, 1) > 0 }
}

fn programs_cannot_be_started() {
    let mut node = node(closed());
    let path = node.folder().join("touched");
    let goal = format!("shell(\"touch {}\", S)", path.display());
    let (answers, end) = node.query(&goal);
    assert!(!path.exists(), "{answers:?} {end:?}");
    node.query("catch(process_create(\"/bin/true\", [], []), _, true)");
    let log = node.stderr();
    assert!(log.contains("refused to start a process") || log.contains("refused to run"), "{log}");
    // The engine goes on.
    assert_eq!(node.query("X = 1").0, ["X = 1"]);
}

fn sockets_cannot_be_opened() {
    let mut node = node(closed());
    let (answers, _) = node.query("socket_server_open(0, S)");
    assert!(answers.is_empty());
    assert!(node.stderr().contains("refused a socket"), "{}", node.stderr());
    let mut open = self::node(Sandbox { net: true, ..closed() });
    assert_eq!(open.query("socket_server_open(P, S), P > 0, X = yes").0.len(), 1);
}

fn files_cannot_be_written_unless_allowed() {
    let mut node = node(closed());
    let path = node.folder().join("written");
    let goal = format!("write_file('{}')", path.display());
    let (_, end) = node.query(&goal);
    assert!(error_of(&end).starts_with("error(permission_error(open,source_sink,"), "{end:?}");
    assert!(!path.exists());
    let log = node.stderr();
    assert!(log.contains(&format!("refused to write {path:?}")), "{log}");
    let data = node.folder().join("data.txt");
    node.query(&format!("delete_file(\"{}\")", data.display()));
    assert!(data.exists());
    let log = node.stderr();
    assert!(log.contains(&format!("refused to change {data:?}")), "{log}");
    if has_landlock() {
        let allowed = tempfile::tempdir().unwrap();
        let write = vec![allowed.path().to_string_lossy().into_owned()];
        let mut node = self::node(Sandbox { write, ..closed() });
        let inside = allowed.path().join("written");
        assert_eq!(node.query(&format!("write_file('{}')", inside.display())).0, ["true"]);
        assert!(inside.exists());
        let outside = node.folder().join("written");
        node.query(&format!("write_file('{}')", outside.display()));
        assert!(!outside.exists());
        assert!(node.stderr().contains(&format!("refused to write {outside:?}")), "{log}");
    }
}

fn files_can_be_read_in_the_programs_folder_only() {
    if !has_landlock() {
        eprintln!("skipped: this kernel has no landlock");
        return;
    }
    let mut node = node(closed());
    let data = node.folder().join("data.txt");
    assert_eq!(node.query(&format!("read_file('{}', T)", data.display())).0, ["T = hello"]);
    let (answers, end) = node.query("read_file('/etc/passwd', T)");
    assert!(answers.is_empty() && matches!(end, End::Error { .. }), "{answers:?} {end:?}");
    let log = node.stderr();
    assert!(log.contains("refused to read \"/etc/passwd\" (--allow-read)"), "{log}");
    node.query("catch(read_file('/no/such/file', T), _, fail)");
    assert!(!node.stderr().contains("/no/such"), "what is not there is not refused");
    let other = tempfile::tempdir().unwrap();
    let file = other.path().join("x.txt");
    std::fs::write(&file, "there.").unwrap();
    let read = vec![other.path().to_string_lossy().into_owned()];
    let mut node = self::node(Sandbox { read, ..closed() });
    assert_eq!(node.query(&format!("read_file('{}', T)", file.display())).0, ["T = there"]);
}

fn everything_is_open_without_a_sandbox() {
    let mut node = node(Sandbox { on: false, ..closed() });
    let path = node.folder().join("written");
    assert_eq!(node.query(&format!("write_file('{}')", path.display())).0, ["true"]);
    let touched = node.folder().join("touched");
    // Without an environment there is no PATH.
    node.query(&format!("shell(\"/usr/bin/touch {}\", S)", touched.display()));
    assert!(path.exists() && touched.exists());
}
