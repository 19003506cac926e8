//! Rules about files: module docs, length, stray blanks, words that do not belong here.

use std::{fs, path::Path, process::Command};

use anyhow::Result;
use duckfeeder_tests::process;

/// A source file longer than this, its tests not counted, is two files.
const MAX_LINES: usize = 600;

/// Kinds of files that people write by hand.
const TEXT: &[&str] = &[
    "md", "py", "rs", "service", "sh", "sql", "toml", "yaml", "yml",
];

/// Words that must not be committed, and why. Put together here, so that this file passes its own rule.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/work", "/main"), "a path of one machine"),
    (concat!("/work", "/shared"), "a path of one machine"),
    (concat!("/root", "/"), "a path of one machine"),
    (concat!("registry.npmjs", ".org"), "the host of a registry"),
    (concat!("pypi", ".org"), "the host of a registry"),
    (concat!("static.crates", ".io"), "the host of a registry"),
    (concat!("to", "do!("), "unfinished work"),
    (concat!("unimple", "mented!("), "unfinished work"),
    (concat!("FIX", "ME"), "unfinished work"),
    (concat!("#[ign", "ore"), "a test that never runs"),
    (concat!("<<<<", "<<<"), "a conflict mark"),
];

/// All violations in the files that are, or could be, committed.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let listed = process::run(
        Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(root),
    )?;
    let mut violations = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        let path = Path::new(name);
        let kind = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        // What has no extension is a script (.ci/run) or the license.
        if !TEXT.contains(&kind) && !kind.is_empty() {
            continue;
        }
        if let Ok(content) = fs::read_to_string(root.join(path)) {
            violations.extend(check_file(name, &content));
        }
    }
    Ok(violations)
}

/// The violations in one file.
fn check_file(name: &str, content: &str) -> Vec<String> {
    let mut violations = Vec::new();
    for (number, line) in (1..).zip(content.lines()) {
        if line.ends_with([' ', '\t']) {
            violations.push(format!("{name}:{number}: blanks at the end of the line"));
        }
        for (word, reason) in FORBIDDEN {
            if line.contains(word) {
                violations.push(format!("{name}:{number}: {word:?} is {reason}"));
            }
        }
    }
    if !content.is_empty() && (!content.ends_with('\n') || content.ends_with("\n\n")) {
        violations.push(format!("{name}: must end with exactly one line feed"));
    }
    if Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "rs")
    {
        violations.extend(check_source(name, content));
    }
    violations
}

/// The violations in one Rust source file.
fn check_source(name: &str, content: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let is_tests = name.ends_with("tests.rs") || name.contains("/tests/");
    let documented = content
        .lines()
        .find(|line| {
            line.starts_with("#![doc") || !(line.trim().is_empty() || line.starts_with("#!["))
        })
        .is_some_and(|line| line.starts_with("//!") || line.starts_with("#![doc"));
    if !documented && !is_tests {
        violations.push(format!("{name}: the module has no doc comment at its top"));
    }
    let lines = content
        .lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count();
    if lines > MAX_LINES && !is_tests {
        violations.push(format!(
            "{name}: {lines} lines without tests, {MAX_LINES} are allowed"
        ));
    }
    if name.starts_with("crates/")
        && name.ends_with("/src/lib.rs")
        && !content.contains("#![forbid(unsafe_code)]")
    {
        violations.push(format!("{name}: lacks #![forbid(unsafe_code)]"));
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_passes() {
        let content = "//! A module.\n#![forbid(unsafe_code)]\n\nfn main() {}\n";
        assert!(check_file("crates/x/src/lib.rs", content).is_empty());
    }

    #[test]
    fn blanks_and_line_feeds_are_seen() {
        assert_eq!(
            check_file("a.md", "text \n"),
            ["a.md:1: blanks at the end of the line"]
        );
        assert_eq!(check_file("a.md", "text").len(), 1);
        assert_eq!(check_file("a.md", "text\n\n").len(), 1);
    }

    #[test]
    fn a_module_is_documented() {
        assert_eq!(check_file("crates/x/src/a.rs", "fn a() {}\n").len(), 1);
        assert!(check_file("crates/x/src/a.rs", "#![allow(x)]\n//! Docs.\n").is_empty());
        assert!(check_file("crates/x/src/a.rs", "#![doc = include_str!(\"a.md\")]\n").is_empty());
        assert!(check_file("crates/x/src/a/tests.rs", "fn a() {}\n").is_empty());
    }

    #[test]
    fn tests_do_not_count_as_length() {
        let code = format!("//! Docs.\n{}", "fn a() {}\n".repeat(MAX_LINES - 1));
        let tests = format!("#[cfg(test)]\n{}", "fn a() {}\n".repeat(MAX_LINES));
        assert!(check_file("crates/x/src/a.rs", &format!("{code}{tests}")).is_empty());
        assert_eq!(
            check_file("crates/x/src/a.rs", &format!("{code}fn b() {{}}\n")).len(),
            1
        );
    }

    #[test]
    fn a_library_forbids_unsafe_code() {
        assert_eq!(check_file("crates/x/src/lib.rs", "//! Docs.\n").len(), 1);
    }

    #[test]
    fn forbidden_words_are_seen() {
        for (word, _) in FORBIDDEN {
            assert_eq!(
                check_file("a.md", &format!("see {word} there\n")).len(),
                1,
                "{word}"
            );
        }
    }
}
