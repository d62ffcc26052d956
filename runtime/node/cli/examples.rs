//! An example for each verb, shown by its `--help` and in its manual page.

use clap::Command;

/// Verbs and, on each further line, how one is used.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("run", &["synod run examples/bank.pl", "synod run --detach --max-time 30s bank.pl"]),
    ("up", &["synod up --detach --node alpha"]),
    ("down", &["synod down"]),
    ("status", &["synod status", "synod status --ready"]),
    ("query", &["synod query 'account(alice, X)'", "synod query --limit 5 'account(Name, X)'"]),
    ("facts", &["synod facts 'account(alice, X)'", "synod facts --limit 5 'account(_, _)'"]),
    ("repl", &["synod repl", "synod repl --agent bank"]),
    ("transact", &["synod transact 'transfer(alice, bob, 30)'"]),
    ("broadcast", &["synod broadcast 'deposit(alice, 100)'"]),
    ("outcome", &["synod outcome 12-1"]),
    ("call", &["synod call bank 'account(alice, X)'", "synod call clock@beta 'now(T)'"]),
    ("publish", &["synod publish news 'hello'", "synod publish numbers -"]),
    ("subscribe", &["synod subscribe news", "synod subscribe news --count 1 --json"]),
    ("peer id", &["synod peer id"]),
    ("peer known", &["synod peer known"]),
    ("peer connections", &["synod peer connections"]),
    ("peer nodes", &["synod peer nodes"]),
    ("peer connect", &["synod peer connect /ip4/192.0.2.1/tcp/4001"]),
    ("peer disconnect", &["synod peer disconnect beta"]),
    ("peer add", &["synod peer add /ip4/192.0.2.1/tcp/4001"]),
    ("peer rm", &["synod peer rm /ip4/192.0.2.1/tcp/4001"]),
    ("peer stats", &["synod peer stats"]),
    ("peer key", &["synod peer key network.key"]),
    ("agent list", &["synod agent list"]),
    ("agent stop", &["synod agent stop bank"]),
    ("agent restart", &["synod agent restart bank"]),
    ("agent reload", &["synod agent reload bank"]),
    ("agent logs", &["synod agent logs bank -f", "synod agent logs bank -n 20"]),
    ("agent letters", &["synod agent letters bank", "synod agent letters bank --retry --all"]),
    ("space create", &["synod space create bank"]),
    ("space ticket", &["synod space ticket bank", "synod space ticket bank --uses 2 --valid 1h"]),
    (
        "space join",
        &["synod space join synod-ticket:...", "synod space join synod-ticket:... --observe"],
    ),
    ("space leave", &["synod space leave bank"]),
    ("space list", &["synod space list"]),
    ("space members", &["synod space members bank"]),
    ("space promote", &["synod space promote delta"]),
    ("space remove", &["synod space remove gamma"]),
    ("space transfer", &["synod space transfer beta"]),
    ("space retain", &["synod space retain bank 64MiB", "synod space retain bank everything"]),
    (
        "space recover",
        &[
            "synod space recover bank",
            "synod space recover bank --understood 'recover bank and lose what others have'",
        ],
    ),
    (
        "tunnel add",
        &[
            "synod tunnel add paxos --group 239.0.0.2 --port 20005",
            "synod tunnel add prices --group 239.0.0.2 --port 20005 --order bank",
            "synod tunnel add mdns --group 224.0.0.251 --port 5353 --ttl 255 --capture redirect",
        ],
    ),
    ("tunnel list", &["synod tunnel list"]),
    ("tunnel rm", &["synod tunnel rm paxos"]),
    ("log show", &["synod log show"]),
    ("log tail", &["synod log tail"]),
    ("log export", &["synod log export bank.cbor"]),
    ("log import", &["synod log import bank.cbor"]),
    ("log verify", &["synod log verify"]),
    (
        "replay",
        &[
            "synod replay --until 40 -q 'account(X, Y)'",
            "synod replay yesterday.cbor --agent bank.pl",
        ],
    ),
    ("module publish", &["synod module publish prices prices.pl"]),
    ("module list", &["synod module list"]),
    ("module get", &["synod module get prices"]),
    ("doctor", &["synod doctor", "synod doctor --fix-network"]),
    ("bench write", &["synod bench write"]),
    ("bench read", &["synod bench read"]),
    ("bench publish", &["synod bench publish"]),
    ("bench cluster", &["synod bench cluster", "synod bench cluster --nodes 5 --in-flight 1000"]),
    ("bench transact", &["synod bench transact"]),
    ("bench update", &["synod bench update"]),
    ("bench lookup", &["synod bench lookup"]),
    ("bench reach", &["synod bench reach"]),
    ("bench export", &["synod bench export"]),
    ("bench replay", &["synod bench replay"]),
    ("bench tunnel", &["synod bench tunnel", "synod bench tunnel --time 5s"]),
    ("completions", &["synod completions bash > ~/.local/share/bash-completion/completions/synod"]),
    ("man", &["synod man | man -l -", "synod man ~/.local/share/man/man1"]),
];

/// The command with an example below the help of each verb.
pub(super) fn with_examples(command: Command) -> Command {
    added(command, "")
}

fn added(command: Command, path: &str) -> Command {
    let names: Vec<String> =
        command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let command = names.iter().fold(command, |command, name| {
        let path = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command.mut_subcommand(name, |verb| added(verb, &path))
    });
    let Some((_, examples)) = EXAMPLES.iter().find(|(verb, _)| *verb == path) else {
        return command;
    };
    let title = if examples.len() > 1 { "Examples" } else { "Example" };
    let lines: Vec<String> = examples.iter().map(|example| format!("  {example}")).collect();
    let shown = format!("{title}:\n{}", lines.join("\n"));
    let before = command.get_after_help().map(|help| format!("{help}\n\n")).unwrap_or_default();
    command.after_help(format!("{before}{shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command;

    #[test]
    fn every_verb_has_an_example_that_it_understands() {
        fn verbs(command: &Command, path: &str, found: &mut Vec<String>) {
            for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
                let path = format!("{path} {}", verb.get_name()).trim().to_owned();
                if verb.has_subcommands() {
                    verbs(verb, &path, found);
                } else {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        verbs(&command(), "", &mut found);
        for verb in &found {
            let known = EXAMPLES.iter().find(|(known, _)| known == verb);
            let (_, examples) = known.unwrap_or_else(|| panic!("{verb} has no example"));
            assert!(!examples.is_empty(), "{verb}");
        }
        for (verb, examples) in EXAMPLES {
            assert!(found.contains(&(*verb).to_owned()), "there is no {verb}");
            for example in *examples {
                assert!(example.starts_with(&format!("synod {verb}")), "{example}");
                // As a shell takes it apart: what is in quotes is one word, a pipe ends it.
                let line = example.split([';', '|', '>']).next().unwrap();
                let mut words = Vec::new();
                for (n, part) in line.split('\'').enumerate() {
                    if n % 2 == 1 {
                        words.push(part.to_owned());
                    } else {
                        words.extend(part.split_whitespace().map(str::to_owned));
                    }
                }
                let parsed = command().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
            }
        }
    }
}
