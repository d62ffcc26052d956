//! What the tests of several packages share: saying by name what is skipped, running a test in a
//! network namespace of its own, and reading what an example says of itself.
//!
//! A package takes it in with `#[path = "…/tests/support/mod.rs"] mod support;`.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

/// Names a file that collects a line for each test that was skipped; `tests/run` prints it.
const SKIPPED_FILE: &str = "SYNOD_TESTS_SKIPPED";

/// Set to a test's name where that test runs inside its namespace.
const INSIDE: &str = "SYNOD_TEST_NAMESPACE";

/// Says that a test is skipped and why. The caller returns.
pub(crate) fn skip(test: &str, why: &str) {
    let line = format!("skipped {test}: {why}\n");
    // The handle, unlike eprintln!, is not captured by the test runner.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIPPED_FILE) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Whether a program is on the path.
pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs `body` in a fresh network namespace after the lines of shell in `setup` (for which `lo` is
/// up), or skips it by name where the machine has no way to make one. `test` is the name of the
/// test function that calls this, and this is all that it does.
///
/// A namespace belongs to a process, so the test binary starts itself again with this test alone;
/// the namespace and all that runs in it end with that process.
pub(crate) fn in_namespace(test: &str, setup: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some_and(|name| name == OsStr::new(test)) {
        return body();
    }
    for program in ["unshare", "ip"] {
        if !installed(program) {
            return skip(test, &format!("`{program}` is not installed"));
        }
    }
    if !unshare(["true"]).stderr(Stdio::null()).status().unwrap().success() {
        return skip(test, "this user may make no network namespace");
    }
    let script = format!("set -e; ip link set lo up; {setup}\nexec \"$0\" \"$@\"");
    let binary = std::env::current_exe().unwrap();
    let output = unshare(["sh", "-c", &script])
        .arg(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, test)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("1 passed"),
        "in its namespace, {test} ended with {}\n{stdout}{stderr}",
        output.status,
    );
}

/// The commands that an example states in the comment at its top, after `$`, and after each the lines
/// that it is said to print.
pub(crate) fn stated_commands(example: &str) -> Vec<(String, Vec<String>)> {
    let top = example.strip_prefix("/**").and_then(|rest| rest.split("*/").next());
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    let mut shown = false;
    for line in top.unwrap_or_default().lines() {
        match line.strip_prefix("    ") {
            Some(line) if line.starts_with("$ ") => {
                commands.push((line[2..].to_owned(), Vec::new()));
                shown = true;
            }
            Some(line) if shown => {
                if let Some((_, printed)) = commands.last_mut() {
                    printed.push(line.to_owned());
                }
            }
            _ => shown = false,
        }
    }
    commands
}

/// unshare(1) of a network namespace, as root or as a user who may make user namespaces.
fn unshare<const N: usize>(command: [&str; N]) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--kill-child"]);
    let root = Command::new("unshare")
        .args(["--net", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !root {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--").args(command);
    unshare
}
