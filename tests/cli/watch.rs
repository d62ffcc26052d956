//! `synod run --watch`: a save is a reload, and what came of it is said. What a program is warned of is
//! seen, however it is run.

use crate::world::{Process, World};
use rustix::process::Signal;

const MAIN: &str = "\
:- use_module(library(synod)).
:- use_module(rules).
on(start) :- write(begun), nl.
on(event(_, _, X)) :- rule(X, Y), write(main(VERSION, Y)), nl.
";

const RULES: &str = ":- module(rules, [rule/2]).\nrule(X, VERSION-X).\n";

fn versioned(text: &str, version: &str) -> String {
    text.replace("VERSION", version)
}

/// Saves as editors do: another file takes the place of the old.
fn save(world: &World, name: &str, text: &str) {
    let new = world.program(&format!("{name}~"), text);
    std::fs::rename(new, world.path().join(name)).unwrap();
}

#[test]
fn a_save_reloads_and_what_does_not_load_is_told() {
    for is_beside in [false, true] {
        let world = World::new();
        let _node = is_beside.then(|| world.up(&[]));
        world.program("rules.pl", &versioned(RULES, "r1"));
        let program = world.program("shop.pl", &versioned(MAIN, "1"));
        let mut run = Process::start(world.command(["run", &program, "--watch"]), true);
        run.until("begun");
        world.yes(["broadcast", "x"]);
        run.until("main(1,r1-x)");
        save(&world, "shop.pl", &versioned(MAIN, "2"));
        assert!(run.until("[watch]").contains("shop.pl changed: reloaded"), "{:?}", run.seen);
        world.yes(["broadcast", "x"]);
        run.until("main(2,r1-x)");
        // A file that it loads from its folder is part of it.
        world.program("rules.pl", &versioned(RULES, "r2"));
        assert!(run.until("[watch]").contains("rules.pl changed: reloaded"));
        world.yes(["broadcast", "x"]);
        run.until("main(2,r2-x)");
        // Others are not; nor is one that is saved as it was.
        world.program("other.pl", "p(1).");
        save(&world, "rules.pl", &versioned(RULES, "r2"));
        save(
            &world,
            "shop.pl",
            &format!("{}on(x) :- foo((.\nok.\nbad :- = = 1.\n", versioned(MAIN, "3")),
        );
        let said = run.until("[watch]");
        assert!(said.contains("shop.pl changed: ") && said.contains("shop.pl:5:"), "{said}");
        assert!(said.ends_with("the program from before goes on"), "{said}");
        run.until("shop.pl:7:");
        world.yes(["broadcast", "y"]);
        run.until("main(2,r2-y)");
        save(
            &world,
            "shop.pl",
            &versioned(MAIN, "4").replace("on(start)", "p(Single).\non(start)"),
        );
        // The log's line and the reload's come each on its own.
        let before = run.seen.len();
        let is_warning = |l: &String| l.contains("shop.pl:3:") && l.contains("Single");
        let is_reload = |l: &String| l.contains("reloaded");
        while !(run.seen[before..].iter().any(is_warning)
            && run.seen[before..].iter().any(is_reload))
        {
            run.line();
        }
        world.yes(["broadcast", "z"]);
        run.until("main(4,r2-z)");
        run.signal(Signal::INT);
        assert_eq!(run.wait(), 0);
        assert_eq!(run.rest().iter().filter(|line| *line == "begun").count(), 1);
    }
}

#[test]
fn warnings_are_seen_however_a_program_is_run() {
    let text =
        ":- use_module(library(synod)).\np(Single) :- true.\non(start) :- write(begun), nl.\n";
    let world = World::new();
    let program = world.program("warned.pl", text);
    for is_beside in [false, true] {
        let _node = is_beside.then(|| world.up(&[]));
        let mut run = Process::start(world.command(["run", &program]), true);
        run.until("begun");
        let warned = |run: &mut Process| {
            run.rest().iter().any(|l| l.starts_with("[warning]") && l.contains("warned.pl:2:"))
        };
        while !warned(&mut run) {
            run.line();
        }
        run.signal(Signal::INT);
        assert_eq!(run.wait(), 0);
    }
    let ran = world.run(["run", &program, "--detach"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("warned.pl:2:") && ran.stderr.contains("warning"), "{ran:?}");
    let ran = world.run(["agent", "reload", "warned"]);
    assert!(ran.code == 0 && ran.stderr.contains("warned.pl:2:"), "{ran:?}");
    world.yes(["down"]);
}
