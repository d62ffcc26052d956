//! Reading the repository as text: its files, its manifests, and Rust code without comments and
//! texts. No more of either language is understood than the rules ask for.

use crate::root;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of the repository. In `code`, comments and texts are blank; other files have none.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
}

impl File {
    /// A line of it, as violations are given.
    pub(crate) fn at(&self, line: usize) -> String {
        format!("{}:{}: {}", self.path, line + 1, self.text.lines().nth(line).unwrap_or("").trim())
    }

    /// The code without the tests, which stand last in a file.
    pub(crate) fn product(&self) -> &str {
        self.code.split("\nmod tests {").next().unwrap()
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// The files that git knows and that are text; without git, all that are not built.
pub(crate) fn tracked() -> Vec<File> {
    let list = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let paths: Vec<PathBuf> = match list {
        Ok(list) if list.status.success() => {
            let list = String::from_utf8(list.stdout).unwrap();
            list.split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => walk(Path::new("")),
    };
    paths
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(&path)).ok()?;
            let path = path.to_str()?.to_owned();
            let code = if path.ends_with(".rs") { code(&text) } else { String::new() };
            Some(File { path, text, code })
        })
        .collect()
}

pub(crate) fn rust() -> Vec<File> {
    let mut files = tracked();
    files.retain(|file| file.path.ends_with(".rs"));
    assert!(!files.is_empty(), "a rule that looks at no file holds for nothing");
    files
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = folder.join(entry.file_name());
        if !entry.file_type().unwrap().is_dir() {
            paths.push(path);
        } else if entry.file_name() != "target" && entry.file_name() != ".git" {
            paths.extend(walk(&path));
        }
    }
    paths
}

/// The dependencies that a manifest declares, each with the kind of its section.
pub(crate) fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut section = String::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
            // [dependencies.NAME]
            if let Some((kind, name)) = section.rsplit_once('.')
                && kind.ends_with("dependencies")
                && !kind.starts_with("workspace")
            {
                found.push((kind.to_owned(), name.to_owned()));
            }
        } else if section.ends_with("dependencies") && !section.starts_with("workspace") {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            // NAME = { package = "…" } is the package.
            let renamed = line.split("package = \"").nth(1).and_then(|rest| rest.split('"').next());
            if !name.is_empty() && !name.starts_with('#') {
                found.push((section.clone(), renamed.unwrap_or(name).to_owned()));
            }
        }
    }
    found
}

/// The words of a line of code.
pub(crate) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The modules of std that code names, as `std::fs` or as `std::{fs, io::Read}`.
pub(crate) fn std_modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("std::").skip(1) {
        match rest.strip_prefix('{') {
            None => found.extend(words(rest).next().map(str::to_owned)),
            Some(group) => {
                let mut depth = 0;
                let top: String = group
                    .chars()
                    .take_while(|c| {
                        depth += i32::from(*c == '{') - i32::from(*c == '}');
                        depth >= 0
                    })
                    .collect();
                let modules = top.split(',').filter_map(|item| words(item).next());
                found.extend(modules.map(str::to_owned));
            }
        }
    }
    found
}

/// The names that code declares as hashed maps or sets.
pub(crate) fn hashes(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code.lines() {
        for hashed in ["HashMap", "HashSet"] {
            let Some((before, _)) = line.split_once(hashed) else {
                continue;
            };
            let before = before.trim_end_matches("collections::").trim_end_matches("std::");
            let before = before.trim_end_matches(|c: char| c != ':' && c != '=');
            if !before.trim_end_matches([':', '=', ' ']).contains("use ") {
                found.extend(words(before).last().map(str::to_owned));
            }
        }
    }
    found
}

/// Whether a line of code goes through all that a name holds.
pub(crate) fn walks(line: &str, name: &str) -> bool {
    let methods =
        ["iter", "iter_mut", "into_iter", "keys", "values", "values_mut", "drain", "retain"];
    let called = |method: &&str| {
        line.match_indices(&format!("{name}.{method}(")).any(|(at, _)| starts_a_word(line, at))
    };
    let looped = line.trim_start().starts_with("for ")
        && line.split(" in ").nth(1).is_some_and(|over| {
            let over = over.trim_end_matches([' ', '{']).trim_start_matches(['&', ' ']);
            let over = over.trim_start_matches("mut ").trim_start_matches("self.");
            over == name
        });
    looped || methods.iter().any(called)
}

fn starts_a_word(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Rust text with its comments and literals of text made blank, line by line in place.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = literal(rest).unwrap_or(0);
        if len > 0 {
            out.extend(rest[..len].chars().map(|c| if c == '\n' { c } else { ' ' }));
            rest = &rest[len..];
        } else {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    out
}

/// The length of the comment or literal that the text starts with, if it starts with one.
fn literal(text: &str) -> Option<usize> {
    let until = |from: usize, end: &str| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(until(2, "*/"));
    }
    if let Some(raw) = text.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let quoted = raw[hashes..].starts_with('"');
        return quoted.then(|| until(hashes + 2, &format!("\"{}", "#".repeat(hashes))));
    }
    if text.starts_with('"') {
        let mut escaped = false;
        let end = text.char_indices().skip(1).find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        return Some(end.map_or(text.len(), |(at, _)| at + 1));
    }
    // 'a' and '\n' are characters; 'a without a second quote is a lifetime.
    let quoted = text.strip_prefix('\'')?;
    if quoted.starts_with('\\') {
        Some(until(3, "'"))
    } else {
        let c = quoted.chars().next()?;
        quoted[c.len_utf8()..].starts_with('\'').then_some(c.len_utf8() + 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_no_code() {
        let text =
            "a // std::fs\n/* b\nc */ d \"e \\\" f\" 'g' '\\'' 'h: &'i r#\"j \"k\"# \"l\nm\" n";
        let lines = code(text);
        let lines: Vec<Vec<_>> = lines.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines, [vec!["a"], vec![], vec!["d", "'h:", "&'i"], vec!["n"]]);
    }

    #[test]
    fn modules_are_seen_alone_and_in_groups() {
        let code =
            "use std::{collections::{BTreeMap, btree_map::fs}, fs, io::Read};\nstd::net::x()";
        let wanted = ["btree_map", "collections", "fs", "io", "net"].map(str::to_owned);
        assert_eq!(std_modules(code), BTreeSet::from(wanted));
    }

    #[test]
    fn dependencies_are_seen_in_all_their_forms() {
        let manifest = "[workspace.dependencies]\na = \"1\"\n[dependencies]\nb.workspace = true\n\
             # c = \"1\"\nd = { package = \"e\" }\n[target.'cfg(unix)'.dependencies]\nf = \"1\"\n\
             [dev-dependencies.g]\npath = \"h\"\n[features]\ni = []\n";
        let found: Vec<_> = dependencies(manifest).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, ["b", "e", "f", "g"]);
    }

    #[test]
    fn hashes_are_known_by_their_names() {
        let code = "use std::collections::HashMap;\nlast: std::collections::HashMap<u64, u64>,\nlet seen = HashSet::new();";
        assert_eq!(hashes(code), BTreeSet::from(["last", "seen"].map(str::to_owned)));
        for line in
            ["for x in &self.last {", "for (k, v) in last {", "self.last.keys()", "last.drain(..)"]
        {
            assert!(walks(line, "last"), "{line}");
        }
        for line in
            ["self.last.get(&k)", "at_last.iter()", "for x in &self.lasting {", "last.len()"]
        {
            assert!(!walks(line, "last"), "{line}");
        }
    }
}
