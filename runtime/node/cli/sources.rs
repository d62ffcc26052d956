//! Which files a program loads from its folder, as far as its text tells without running it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Files of one program, at most; further ones are not found.
const MAX_FILES: usize = 256;
/// Bytes of one file that are looked through, at most.
const MAX_BYTES: usize = 1 << 20;
/// Directives that load a file.
const LOADERS: [&str; 4] = ["use_module(", "ensure_loaded(", "consult(", "include("];

/// The program, and the files that it and they load by a path. A call in a comment may name one too
/// many, which is watched for nothing; a path that the program computes is not found.
pub(crate) fn of(program: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::from([program.to_owned()]);
    let mut left = vec![program.to_owned()];
    while let Some(file) = left.pop() {
        let Ok(text) = std::fs::read(&file) else { continue };
        let text = String::from_utf8_lossy(&text[..text.len().min(MAX_BYTES)]).into_owned();
        let folder = file.parent().unwrap_or(Path::new("."));
        for name in loaded(&text) {
            let candidates = [folder.join(&name), folder.join(format!("{name}.pl"))];
            let path = candidates.into_iter().find(|path| path.is_file());
            if let Some(path) = path.filter(|_| found.len() < MAX_FILES)
                && found.insert(path.clone())
            {
                left.push(path);
            }
        }
    }
    found
}

/// The paths in the loading directives of a text: atoms and strings, and no `library(Name)`.
fn loaded(text: &str) -> Vec<String> {
    let calls = LOADERS.iter().flat_map(|loader| {
        text.match_indices(loader).map(|(at, call)| text[at + call.len()..].trim_start())
    });
    calls.filter_map(path).collect()
}

fn path(argument: &str) -> Option<String> {
    let quote = argument.chars().next().filter(|c| matches!(c, '\'' | '"'));
    if let Some(quote) = quote {
        return argument[1..].split_once(quote).map(|(path, _)| path.to_owned());
    }
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '.');
    let end = argument.find(|c| !is_path(c))?;
    let (path, rest) = argument.split_at(end);
    let is_call = rest.starts_with('(');
    (!path.is_empty() && !is_call).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_what_loads_them_and_libraries_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path
        };
        let main = write(
            "main.pl",
            ":- use_module(library(lists)).\n:- use_module(rules, [p/1]).\n\
             :- use_module('sub/deep').\n:- include(\"facts.pl\").\n:- consult(gone).\n:- use_module(X).\n",
        );
        let all = [
            main.clone(),
            write("rules.pl", ":- use_module(main).\n"),
            write("sub/deep.pl", ":- ensure_loaded(deeper)."),
            write("sub/deeper.pl", ""),
            write("facts.pl", "use_module("),
        ];
        write("other.pl", "");
        assert_eq!(of(&main), all.into_iter().collect());
    }
}
