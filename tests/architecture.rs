//! The architecture, as rules that fail: who may depend on whom, what the core never names, how long
//! a file may be, what no file of this repository holds. Each rule gives all its violations at once.
//!
//! The rules read text, not types. They stop what happens by habit; the core's clippy.toml stops the
//! rest. What a rule forbids is written here in two halves, so that this file obeys it too.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "architecture/source.rs"]
mod source;
mod support;

use source::{dependencies, hashes, rust, std_modules, tracked, walks, words};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The packages, their folders, and which of ours each may depend on. Bridge and shim carry bytes
/// and know nobody; nobody knows the simulator, except for tests.
const PACKAGES: &[(&str, &str, &[&str])] = &[
    ("synod", "", &["synod-bridge", "synod-core", "synod-prolog", "synod-udp-shim"]),
    ("synod-bridge", "bridge", &[]),
    ("synod-core", "runtime/core", &[]),
    ("synod-prolog", "prolog", &["synod-core"]),
    ("synod-sim", "tests/sim", &["synod-core"]),
    ("synod-udp-shim", "udp-shim", &[]),
];

/// The packages that depend on none of ours in their tests either.
const STRANGERS: &[&str] = &["synod-bridge", "synod-udp-shim"];

/// The one place that knows which consensus library there is.
const ORDER: &str = "runtime/core/src/order";
const ORDER_ONLY: &[&str] = &["raft", "protobuf"];

/// Modules of `std` by which a program reaches the world, and the types that read its clocks.
const CORE: &str = "runtime/core/src/";
const CORE_MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread"];
const CORE_WORDS: &[&str] = &["Instant", "SystemTime", "thread_local", "tokio"];

/// A file that grows past this is two files.
const MAX_LINES: usize = 600;

#[test]
fn packages_depend_along_the_arrows_only() {
    let mut broken = Vec::new();
    for (name, folder, allowed) in PACKAGES {
        let path = root().join(folder).join("Cargo.toml");
        let Ok(manifest) = fs::read_to_string(&path) else {
            continue;
        };
        assert!(manifest.contains(&format!("\nname = \"{name}\"")), "{} is {name}", path.display());
        for (section, dependency) in dependencies(&manifest) {
            let for_tests = section == "dev-dependencies" && dependency == "synod-sim";
            let fine = allowed.contains(&&*dependency) || for_tests && !STRANGERS.contains(name);
            if dependency.starts_with("synod") && !fine {
                broken.push(format!("{name} has {dependency} in its {section}"));
            }
            if ORDER_ONLY.contains(&&*dependency) && *name != "synod-core" {
                broken.push(format!("{name} has {dependency}, which only {ORDER} may know"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            broken.push(format!("{name} does not take the workspace's lints"));
        }
    }
    none("dependencies against the arrows", &broken);
}

#[test]
fn every_member_of_the_workspace_has_its_arrows() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    let unknown: Vec<_> = members
        .split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !PACKAGES.iter().any(|(_, folder, _)| folder == member))
        .collect();
    none("members of the workspace that are not among PACKAGES", &unknown);
}

#[test]
fn only_order_names_the_consensus_library() {
    let mut broken = Vec::new();
    for file in rust().into_iter().filter(|file| !file.path.starts_with(ORDER)) {
        for (number, line) in file.code.lines().enumerate() {
            let names = |library: &&&str| {
                let word = words(line).position(|word| word == **library);
                word.is_some() && (line.contains("use ") || line.contains(&format!("{library}::")))
            };
            broken.extend(ORDER_ONLY.iter().find(names).map(|_| file.at(number)));
        }
    }
    none(&format!("names of the consensus library outside {ORDER}"), &broken);
}

#[test]
fn the_core_reaches_nothing() {
    let mut broken = Vec::new();
    for file in rust().into_iter().filter(|file| file.path.starts_with(CORE) && !file.is_test()) {
        for module in std_modules(file.product()) {
            if CORE_MODULES.contains(&&*module) {
                broken.push(format!("{}: std::{module}", file.path));
            }
        }
        for (number, line) in file.product().lines().enumerate() {
            broken.extend(
                words(line).find(|word| CORE_WORDS.contains(word)).map(|_| file.at(number)),
            );
        }
    }
    none("clocks, threads, files or sockets in the core", &broken);
}

#[test]
fn the_core_never_walks_a_hash() {
    let mut broken = Vec::new();
    for file in rust().into_iter().filter(|file| file.path.starts_with(CORE) && !file.is_test()) {
        let hashes = hashes(file.product());
        for (number, line) in file.product().lines().enumerate() {
            broken.extend(hashes.iter().find(|name| walks(line, name)).map(|_| file.at(number)));
        }
    }
    none("walks in hash order, which differs between replicas", &broken);
}

#[test]
fn no_source_file_is_long() {
    let long: Vec<_> = tracked()
        .into_iter()
        .filter(|file| [".rs", ".pl", ".sh", ".py"].iter().any(|end| file.path.ends_with(end)))
        .map(|file| (file.text.lines().count(), file.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    none(&format!("files of more than {MAX_LINES} lines"), &long);
}

#[test]
fn nothing_is_left_unfinished() {
    let unfinished = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let mut broken = Vec::new();
    for file in rust() {
        for (number, line) in file.code.lines().enumerate() {
            broken.extend(
                unfinished.iter().find(|word| line.contains(**word)).map(|_| file.at(number)),
            );
        }
    }
    none("code that is not there yet", &broken);
}

#[test]
fn no_file_knows_the_machine_it_was_made_on() {
    let foreign = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("replace", "-with"),
        concat!("index", "-url"),
        concat!("find", "-links"),
        concat!("sparse", "+http"),
    ];
    let registry = "registry+https://github.com/rust-lang/crates.io-index";
    let mut broken = Vec::new();
    for file in tracked() {
        for (number, line) in file.text.lines().enumerate() {
            let elsewhere = line.starts_with("source = ") && !line.contains(registry);
            if elsewhere || foreign.iter().any(|word| line.contains(word)) {
                broken.push(file.at(number));
            }
        }
    }
    none("paths of a machine, or registries of its own", &broken);
}

#[test]
fn every_top_level_folder_is_in_architecture_md() {
    let Ok(page) = fs::read_to_string(root().join("ARCHITECTURE.md")) else {
        return;
    };
    let folders: BTreeSet<_> = tracked()
        .into_iter()
        .filter_map(|file| Some(format!("{}/", file.path.split_once('/')?.0)))
        .filter(|folder| !folder.starts_with('.') && !page.contains(folder.as_str()))
        .collect();
    none("folders that ARCHITECTURE.md does not name", &Vec::from_iter(folders));
}

#[test]
fn every_example_states_its_commands_at_its_top() {
    let mut silent = Vec::new();
    let mut printing = 0;
    for file in tracked() {
        if file.path.starts_with("examples/") && file.path.ends_with(".pl") {
            let commands = support::stated_commands(&file.text);
            printing += commands.iter().filter(|(_, printed)| !printed.is_empty()).count();
            if !commands.iter().any(|(command, _)| command.contains(&file.path)) {
                silent.push(file.path);
            }
        }
    }
    none("examples that do not say how they are started", &silent);
    assert!(printing > 0, "what an example prints is read from it");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn none(what: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{what}:\n  {}", broken.join("\n  "));
}
