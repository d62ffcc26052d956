//! What a line may say that begins with a colon: orders to the toplevel itself.

/// What `:help` prints.
pub(super) const HELP: &str = "\
GOAL.               solve it; a goal may go over several lines, up to its full stop
  ; or space        the next answer
  . or return       no further answer
  a                 all answers
  f                 the next five answers
:as_of INDEX        answer on the facts as of an index, until :as_of now
:watch NAME/ARITY   print the changes of a replicated predicate as they come
:unwatch NAME/ARITY no longer
:letters            events that the agent could not handle
:agents             the agents of the node
:help               this
Tab completes the names of predicates. Ctrl-C stops a goal, Ctrl-D leaves.";

/// The commands' names, for completion.
pub(super) const NAMES: [&str; 6] =
    [":agents", ":as_of", ":help", ":letters", ":unwatch", ":watch"];

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// As of an index, or of now.
    AsOf(Option<u64>),
    /// `Name/Arity`.
    Watch(String),
    /// `Name/Arity`.
    Unwatch(String),
    Letters,
    Agents,
    Help,
}

/// Whether a line is a command. No goal begins with a colon and a letter.
pub(super) fn is_command(line: &str) -> bool {
    let behind = line.trim_start().strip_prefix(':');
    behind.is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Reads a command, or says what is wrong with it. A full stop behind it is passed over.
pub(super) fn read(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches('.').trim_end();
    let mut words = line.split_whitespace();
    let (name, argument) = (words.next().unwrap_or_default(), words.next());
    if let Some(more) = words.next() {
        return Err(format!("{name}: `{more}` is too much; see :help"));
    }
    match (name, argument) {
        (":as_of", Some("now")) => Ok(Command::AsOf(None)),
        (":as_of", Some(index)) => match index.parse() {
            Ok(index) => Ok(Command::AsOf(Some(index))),
            Err(_) => Err(format!("`{index}` is no index: say :as_of 17, or :as_of now")),
        },
        (":as_of", None) => Err("say which index: :as_of 17, or :as_of now".to_owned()),
        (":watch" | ":unwatch", None) => Err(format!("say what: {name} account/2")),
        (":watch" | ":unwatch", Some(predicate)) => {
            let arity = predicate.rsplit_once('/').map(|(_, arity)| arity.parse::<u32>());
            match arity {
                Some(Ok(_)) if name == ":watch" => Ok(Command::Watch(predicate.to_owned())),
                Some(Ok(_)) => Ok(Command::Unwatch(predicate.to_owned())),
                _ => Err(format!("`{predicate}` is no predicate: say {name} account/2")),
            }
        }
        (":letters", None) => Ok(Command::Letters),
        (":agents", None) => Ok(Command::Agents),
        (":help", None) => Ok(Command::Help),
        (name, Some(_)) if NAMES.contains(&name) => Err(format!("{name} takes no argument")),
        (name, _) => Err(format!("there is no {name}; see :help")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_what_is_none_is_told() {
        assert_eq!(read(" :as_of 17."), Ok(Command::AsOf(Some(17))));
        assert_eq!(read(":as_of now"), Ok(Command::AsOf(None)));
        assert_eq!(read(":watch account/2"), Ok(Command::Watch("account/2".into())));
        assert_eq!(read(":help"), Ok(Command::Help));
        for wrong in [":as_of", ":as_of x", ":watch account", ":help me", ":fly", ":as_of 1 2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(is_command(":watch a/1") && !is_command(":- true.") && !is_command("a:b."));
        assert!(NAMES.iter().all(|name| HELP.contains(name)));
    }
}
