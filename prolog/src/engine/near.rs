//! A procedure that is not known: where it is called, and what may have been meant.

/// Names that are told as possibly meant, at most.
const MAX_MEANT: usize = 3;
/// Letters from which on two of them may be wrong.
const LONG: usize = 5;
/// And one. All names of fewer letters are near one another.
const SHORT: usize = 3;

/// What `on/1` is called with.
const TRIGGERS: [(&str, u32); 12] = [
    ("start", 0),
    ("engine", 0),
    ("event", 3),
    ("changed", 1),
    ("timer", 1),
    ("message", 3),
    ("sent", 2),
    ("udp", 3),
    ("datagram", 3),
    ("udp", 4),
    ("datagram", 4),
    ("gap", 2),
];

/// What is said of it.
pub(super) fn unknown(name: &str, arity: u32, names: &[(String, u32)]) -> String {
    let said = format!("unknown procedure {name}/{arity}");
    match meant(name, arity, names).as_slice() {
        [] => said,
        some => format!("{said}; did you mean {}?", some.join(" or ")),
    }
}

/// What is said of one that was looked for in a module.
pub(super) fn unknown_in(module: &str, name: &str, arity: u32, names: &[(String, u32)]) -> String {
    let said = format!("unknown procedure {module}:{name}/{arity}");
    match meant(name, arity, names).as_slice() {
        [] => said,
        some => format!("{said}; did you mean {}?", some.join(" or ")),
    }
}

/// What is said of a head of `on/1` that no trigger has.
pub(super) fn no_trigger(name: &str, arity: u32) -> String {
    let said = format!("this clause of on/1 is never called: no trigger is {name}/{arity}");
    let triggers: Vec<_> = TRIGGERS.map(|(name, arity)| (name.to_owned(), arity)).into();
    match meant(name, arity, &triggers).as_slice() {
        [] => {
            let all = TRIGGERS.map(|(name, arity)| format!("{name}/{arity}"));
            format!("{said}; there are {}", all.join(", "))
        }
        some => format!("{said}; did you mean {}?", some.join(" or ")),
    }
}

/// The nearest of the names: the same with another arity, or one that a slip of the fingers away is.
fn meant(name: &str, arity: u32, names: &[(String, u32)]) -> Vec<String> {
    let most = match name.chars().count() {
        LONG.. => 2,
        SHORT.. => 1,
        _ => 0,
    };
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|(other, of)| {
            let slips = distance(name, other, most)?;
            // What one is likely to have meant has as many arguments.
            let rank = 2 * slips + usize::from(*of != arity);
            (slips == 0 || *of == arity)
                .then(|| (rank, of.abs_diff(arity), format!("{other}/{of}")))
        })
        .collect();
    found.sort();
    found.dedup();
    let best = found.first().map_or(0, |(rank, ..)| *rank);
    found
        .into_iter()
        .take_while(|(rank, ..)| *rank == best)
        .map(|(.., name)| name)
        .take(MAX_MEANT)
        .collect()
}

/// Letters that are wrong, missing, too many or swapped with the next (the optimal string alignment
/// distance), if they are no more than `most`.
fn distance(a: &str, b: &str, most: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let wrong = usize::from(a[i - 1] != b[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + wrong);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().filter(|distance| *distance <= most)
}

/// Where in a clause a name stands: the first place where it has arguments, else the first; the
/// clause's beginning, if it is not found.
pub(super) fn place(text: &str, from: u64, to: u64, name: &str) -> u64 {
    let offset = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(text.len());
    let Some(clause) = text.get(offset(from)..offset(to)) else { return from };
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_word = name.chars().all(is_part);
    let stands = |at: &usize| {
        let (before, behind) = (&clause[..*at], &clause[at + name.len()..]);
        !is_word || !before.ends_with(is_part) && !behind.starts_with(is_part)
    };
    let places: Vec<usize> = clause.match_indices(name).map(|(at, _)| at).filter(stands).collect();
    let has_arguments = |at: &&usize| clause[**at + name.len()..].starts_with(['(', '\'']);
    let found = places.iter().find(has_arguments).or(places.first());
    from + found.map_or(0, |at| *at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_told_and_what_is_far_is_not() {
        let names: Vec<(String, u32)> = [("append", 3), ("account", 2), ("length", 2), ("nl", 0)]
            .map(|(name, arity)| (name.to_owned(), arity))
            .into();
        let said = |name, arity| unknown(name, arity, &names);
        assert_eq!(said("apend", 3), "unknown procedure apend/3; did you mean append/3?");
        assert_eq!(said("acconut", 2), "unknown procedure acconut/2; did you mean account/2?");
        assert_eq!(said("append", 2), "unknown procedure append/2; did you mean append/3?");
        assert_eq!(said("apend", 7), "unknown procedure apend/7");
        assert_eq!(said("bd", 0), "unknown procedure bd/0");
    }

    #[test]
    fn a_call_is_found_in_its_clause() {
        let text = "a(bc) :- abc, bcd(x), bc(y).";
        assert_eq!(place(text, 0, text.len() as u64, "bc"), 22);
        assert_eq!(place(text, 0, text.len() as u64, "abc"), 9);
        assert_eq!(place(text, 0, text.len() as u64, "none"), 0);
    }
}
