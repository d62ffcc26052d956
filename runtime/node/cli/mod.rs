//! The command line: one file a verb. All but `up`, `run`, `engine` and `monitor` are clients of the control
//! socket and know nothing that another client could not.
//!
//! **stdout is data, stderr is talk.** Exit 0 is yes, 1 is no (the goal failed, nothing was found),
//! 2 is an error, told in a line that says what to do. A reader that has seen enough and closed
//! the pipe is no error.

mod agent;
mod answers;
mod bench;
mod broadcast;
mod call;
mod client;
mod detach;
mod doctor;
mod down;
mod examples;
mod facts;
mod failure;
mod foreground;
mod letters;
mod lines;
mod log;
mod manual;
mod memory;
mod module;
mod monitor;
mod out;
mod outcome;
mod peer;
mod progress;
mod publish;
mod query;
mod recover;
mod repl;
mod replay;
mod run;
mod say;
mod sources;
mod space;
mod spaces;
mod status;
mod table;
mod transact;
mod tunnel;
mod units;
mod up;
mod upload;
mod user;
mod watch;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
pub(crate) use failure::Failure;
pub(crate) use out::Out;
use std::path::PathBuf;
use std::process::ExitCode;

/// `synod help`: one screen.
const HELP: &str = "\
Prolog programs as distributed agents that agree.
Usage: synod VERB ... [--data DIR] [--json] [-v]
Run     run FILE           run a program as an agent, here or in a running node
        up, down           start the node of a data folder, stop it
        status, agent ...  show it; agents: list, stop, restart, logs, letters
Ask     query, call, facts answers of a goal, here or elsewhere; facts alone
        repl               a Prolog toplevel on an agent's program and facts
Tell    broadcast TERM     put an event in a space's order
        transact GOAL      run a goal once, as one transaction
        outcome ID         ask how a transaction ended
        publish, subscribe gossip under a topic, on all nodes
Share   space ...          create, ticket, join, leave, members, ...: many nodes
        peer ...           id, known, connections, add, key, ...: the network
        tunnel ...         add, list, rm: multicast, carried between nodes
Keep    log ...            show, tail, export, import, verify: what was done
        replay, module ... facts as of then; shared code
Tools   doctor, bench ...  what is wrong with this setup; measure
        completions, man   for a shell; manual pages

  --data DIR   the data folder [default: synod in the XDG data folder]
  --json       print JSON, one object a line
  -v           say more on stderr; twice for still more (or SYNOD_LOG=debug)
synod help VERB says more. Every flag has an environment variable: --max-time
is SYNOD_MAX_TIME. Exit: 0 yes, 1 no (a goal failed, nothing found), 2 error.
";

/// Prolog programs as distributed agents that agree
#[derive(Debug, Parser)]
#[command(
    name = "synod",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    override_help = HELP
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The data folder [default: synod in the XDG data folder]
    #[arg(long, global = true, env = "SYNOD_DATA", value_name = "DIR", hide_env = true)]
    data: Option<PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true, env = "SYNOD_JSON", hide_env = true, value_parser = units::switch())]
    json: bool,
    /// Say more on stderr; twice for still more
    #[arg(short, long, global = true, env = "SYNOD_VERBOSE", hide_env = true,
          action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(Box<run::Run>),
    Up(up::Up),
    /// Stop the node
    Down,
    Status(status::Status),
    Query(query::Query),
    Facts(facts::Facts),
    Repl(repl::Repl),
    Transact(transact::Transact),
    Broadcast(broadcast::Broadcast),
    Outcome(outcome::Outcome),
    Call(call::Call),
    Publish(publish::Publish),
    Subscribe(publish::Subscribe),
    #[command(subcommand)]
    Peer(peer::Peer),
    #[command(subcommand)]
    Agent(agent::Agent),
    #[command(subcommand)]
    Space(spaces::Space),
    #[command(subcommand)]
    Tunnel(tunnel::Tunnel),
    #[command(subcommand)]
    Log(log::Log),
    Replay(replay::Replay),
    #[command(subcommand)]
    Module(module::Module),
    #[command(subcommand)]
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
    Completions(manual::Completions),
    Man(manual::Man),
    /// An agent's engine; the node starts it
    #[command(hide = true)]
    Engine,
    #[command(hide = true)]
    Monitor(monitor::Monitor),
}

/// The descriptor on which an engine finds its node.
const ENGINE_SOCKET: std::os::fd::RawFd = 0;

/// What a verb that ended without an error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
}

/// All that the arguments may be, with an example for each verb.
pub(crate) fn command() -> clap::Command {
    examples::with_examples(Cli::command())
}

/// Parses, does what the verb says, and gives the exit status.
pub(crate) fn main() -> ExitCode {
    let parsed = command().try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return misused(&error),
    };
    let Cli { global, verb } = cli;
    if matches!(verb, Verb::Engine) {
        return synod_prolog::engine::main(ENGINE_SOCKET);
    }
    let ended = match verb {
        Verb::Run(run) => run.run(&global),
        Verb::Up(up) => up.run(&global),
        Verb::Down => client::block_on(down::run(&global)),
        Verb::Status(status) => client::block_on(status.run(&global)),
        Verb::Query(query) => client::block_on(query.run(&global)),
        Verb::Facts(facts) => client::block_on(facts.run(&global)),
        Verb::Repl(repl) => client::block_on(repl.run(&global)),
        Verb::Transact(transact) => client::block_on(transact.run(&global)),
        Verb::Broadcast(broadcast) => client::block_on(broadcast.run(&global)),
        Verb::Outcome(outcome) => client::block_on(outcome.run(&global)),
        Verb::Call(call) => client::block_on(call.run(&global)),
        Verb::Publish(publish) => client::block_on(publish.run(&global)),
        Verb::Subscribe(subscribe) => client::block_on(subscribe.run(&global)),
        Verb::Peer(peer) => client::block_on(peer.run(&global)),
        Verb::Agent(agent) => client::block_on(agent.run(&global)),
        Verb::Space(space) => client::block_on(space.run(&global)),
        Verb::Tunnel(tunnel) => client::block_on(tunnel.run(&global)),
        Verb::Log(log) => client::block_on(log.run(&global)),
        Verb::Replay(replay) => client::block_on(replay.run(&global)),
        Verb::Module(module) => client::block_on(module.run(&global)),
        Verb::Bench(bench) => client::block_on(bench.run(&global)),
        Verb::Doctor(doctor) => client::block_on(doctor.run(&global)),
        Verb::Completions(completions) => completions.run(),
        Verb::Man(man) => man.run(),
        Verb::Monitor(monitor) => monitor.run(),
        // Seen to above: an engine ends with a status of its own.
        Verb::Engine => Ok(Verdict::No),
    };
    match ended {
        Ok(Verdict::Yes) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        Err(failure) => failure.tell(),
    }
}

impl Global {
    /// The data folder as an absolute path, whether it is there or not.
    pub(crate) fn data(&self) -> Result<PathBuf, Failure> {
        let chosen = match &self.data {
            Some(data) => data.clone(),
            None => default_data()?,
        };
        std::path::absolute(&chosen)
            .map_err(|error| Failure::error(format!("{}: {error}", chosen.display())))
    }

    pub(crate) fn out(&self) -> Out {
        Out::new(self.json)
    }

    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }
}

/// `$XDG_DATA_HOME/synod`, which is `~/.local/share/synod` if it says nothing (XDG Base Directory
/// Specification 0.8).
fn default_data() -> Result<PathBuf, Failure> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    folder("XDG_DATA_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("synod"))
        .ok_or_else(|| Failure::error("there is no home folder: say where with --data DIR"))
}

/// Help goes to stdout; a misuse is one line on stderr.
fn misused(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if asked {
        // Whoever closed the pipe has seen enough.
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        drop(error.print());
        return ExitCode::from(2);
    }
    Failure::error(one_line(&error.to_string(), suggested(error))).tell()
}

/// The verb or flag that may have been meant.
fn suggested(error: &clap::Error) -> Option<String> {
    let kinds = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg];
    let suggested = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.clone()),
        ContextValue::Strings(names) => names.first().cloned(),
        _ => None,
    });
    suggested.or_else(|| {
        // Of what `help` is asked about, clap knows nothing like it: as a verb it would.
        let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
            return None;
        };
        let error = Cli::try_parse_from(["synod", word]).err()?;
        match error.get(ContextKind::SuggestedSubcommand)? {
            ContextValue::Strings(names) => names.first().cloned(),
            _ => None,
        }
    })
}

/// What the standard library says of a text that is no number, and what people are told.
const NO_NUMBER: [(&str, &str); 3] = [
    ("invalid digit found in string", "give a whole number, as in 5"),
    ("cannot parse integer from empty string", "give a whole number, as in 5"),
    ("number too large to fit in target type", "the number is too large"),
];

/// Clap's message without its prefix, its hints and its line breaks.
fn one_line(message: &str, suggested: Option<String>) -> String {
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let said = message.lines().take_while(|line| !line.is_empty());
    let said = said.map(str::trim).collect::<Vec<_>>().join(" ");
    let said = NO_NUMBER.iter().fold(said, |said, (what, told)| said.replace(what, told));
    match suggested {
        Some(name) => format!("{said}; did you mean {name}? synod help lists what there is"),
        None => format!("{said}; see synod help"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn help_fits_a_screen_and_names_every_verb_and_flag() {
        assert!(HELP.lines().count() <= 24, "{HELP}");
        assert!(HELP.lines().all(|line| line.chars().count() <= 80), "{HELP}");
        let command = command();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let is_named = HELP.lines().any(|line| {
                let column = line.get(8..27).unwrap_or_default();
                column.split([' ', ',']).any(|word| word == verb.get_name())
            });
            assert!(is_named, "{}", verb.get_name());
        }
        for flag in command.get_arguments() {
            let is_named = match (flag.get_short(), flag.get_long()) {
                (Some(short), _) => HELP.contains(&format!("\n  -{short} ")),
                (_, Some(long)) => HELP.contains(&format!("\n  --{long} ")),
                (None, None) => false,
            };
            assert!(is_named, "{}", flag.get_id());
        }
    }

    #[test]
    fn every_flag_has_an_environment_variable() {
        fn check(command: &clap::Command) {
            let flags = command.get_arguments().filter(|arg| !arg.is_positional());
            for flag in flags.filter(|flag| !flag.is_hide_set()) {
                let is_standard = matches!(flag.get_id().as_str(), "help" | "version");
                let is_named = flag
                    .get_env()
                    .is_some_and(|env| env.to_str().is_some_and(|env| env.starts_with("SYNOD_")));
                assert!(is_standard || is_named, "{} {}", command.get_name(), flag.get_id());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }

    #[test]
    fn a_misuse_is_told_in_one_line() {
        let error = Cli::try_parse_from(["synod", "query"]).unwrap_err();
        assert_eq!(
            one_line(&error.to_string(), suggested(&error)),
            "the following required arguments were not provided: <GOAL>; see synod help"
        );
    }

    #[test]
    fn a_misuse_says_what_is_expected() {
        let told = |args: &[&str]| {
            let error = Cli::try_parse_from(args).unwrap_err();
            one_line(&error.to_string(), suggested(&error))
        };
        let number = told(&["synod", "space", "ticket", "--uses", "x"]);
        assert!(number.contains("give a whole number, as in 5"), "{number}");
        let unit = told(&["synod", "space", "ticket", "--valid", "5"]);
        assert!(unit.contains("say the unit: as in 30m, 24h or 7d"), "{unit}");
        let verb = told(&["synod", "help", "stauts"]);
        assert!(verb.contains("did you mean status?"), "{verb}");
        let verb = told(&["synod", "frobnicate"]);
        assert!(verb.ends_with("see synod help"), "{verb}");
    }
}
