//! What other programs are told of the verbs: completions, manual pages, help.

use crate::world::{Ran, World};
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn completions_are_printed_for_each_shell_and_bash_can_use_its_own() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = world.yes(["completions", shell]);
        assert!(script.contains("transact") && script.contains("repl"), "{shell}");
    }
    assert_eq!(world.run(["completions", "csh"]).code, 2);
    let script = world.yes(["completions", "bash"]);
    let ask = "\nCOMP_WORDS=(synod tra); COMP_CWORD=1; _synod synod tra synod; echo \"${COMPREPLY[@]}\"\n";
    let mut bash = Command::new("bash")
        .args(["--norc", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    bash.stdin.take().unwrap().write_all((script + ask).as_bytes()).unwrap();
    let ran = Ran::from(bash.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.trim()), (0, "transact"), "{ran:?}");
}

#[test]
fn manual_pages_are_printed_and_written() {
    let world = World::new();
    let page = world.yes(["man"]);
    assert!(page.contains(".TH synod 1") && page.contains("synod\\-transact(1)"), "{page}");
    let folder = world.path().join("man/man1");
    world.yes(["man", folder.to_str().unwrap()]);
    let query = std::fs::read_to_string(folder.join("synod-query.1")).unwrap();
    assert!(query.contains("account(alice, X)") && query.contains("\\-\\-limit"), "{query}");
    assert!(folder.join("synod-agent-logs.1").exists());
    let file = world.program("file", "");
    let ran = world.run(["man", &format!("{file}/below")]);
    assert!(ran.code == 2 && ran.stderr.contains("file/below"), "{ran:?}");
}

#[test]
fn help_is_a_screen_and_each_verbs_has_an_example() {
    let world = World::new();
    let help = world.yes(["--help"]);
    assert_eq!(world.yes(["help"]), help);
    assert!(help.lines().count() <= 24 && help.lines().all(|line| line.chars().count() <= 80));
    for verb in [&["query"][..], &["repl"], &["agent", "logs"], &["bench", "write"]] {
        let help = world.run(verb.iter().chain(&["--help"])).stdout;
        let example = format!("  synod {}", verb.join(" "));
        assert!(help.contains("Example") && help.contains(&example), "{help}");
    }
}
