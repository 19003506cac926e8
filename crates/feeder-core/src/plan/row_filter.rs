//! Which columns a row filter may use, judged by its text alone.
//!
//! Postgres takes a filter on any columns, and from then on refuses the application's updates and deletes unless it
//! uses columns of the replica identity only (Postgres documentation, "Logical Replication", "Row Filters"). What
//! a filter uses shows only once it is published, and then the harm is done. So this errs on one side: a column counts
//! as used when its name occurs as a word of the filter, outside string literals.

use std::collections::BTreeSet;

/// Longer identifiers are cut off (`NAMEDATALEN`).
const IDENTIFIER_BYTES: usize = 63;

/// The names that occur in a row filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mentions {
    /// Unquoted words in lower case, quoted ones as they are.
    Words(BTreeSet<String>),
    /// Comments, dollar quotes or backslashes: what is a literal is not clear, so any part of the text counts.
    Text(String),
    /// Identifiers with Unicode escapes: they may be anything.
    Anything,
}

impl Mentions {
    pub(super) fn of(filter: &str) -> Self {
        if filter.to_ascii_lowercase().contains("u&\"") {
            return Self::Anything;
        }
        let unclear = ["\\", "$", "--", "/*"];
        if unclear.iter().any(|sign| filter.contains(sign)) {
            return Self::Text(filter.replace("\"\"", "\"").to_lowercase());
        }
        Self::Words(words(filter))
    }

    /// Whether the filter may use what has this name.
    pub(super) fn contain(&self, name: &str) -> bool {
        match self {
            Self::Words(words) => words
                .iter()
                .any(|word| word == name || (word.len() > IDENTIFIER_BYTES && cut_off(name, word))),
            Self::Text(text) => text.contains(&name.to_lowercase()),
            Self::Anything => true,
        }
    }
}

/// Whether `name` is what is left of `word`: a character that does not fit goes as a whole.
fn cut_off(name: &str, word: &str) -> bool {
    name.len() + 4 > IDENTIFIER_BYTES && word.starts_with(name)
}

/// The identifiers and keywords of an SQL expression without comments and escapes.
fn words(filter: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut rest = filter;
    while let Some(first) = rest.chars().next() {
        if first == '\'' {
            // Two quotes inside a literal look like the end of one and the beginning of another.
            let after = rest.get(1..).unwrap_or_default();
            rest = after.split_once('\'').map_or("", |(_, rest)| rest);
        } else if first == '"' {
            let (word, after) = quoted(rest);
            words.insert(word);
            rest = after;
        } else if let Some(after) = rest.strip_prefix("::") {
            // A cast names a type.
            rest = after.trim_start().trim_start_matches(is_word);
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            words.insert(word.to_ascii_lowercase());
            rest = after;
        } else {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    words
}

/// Letters, digits, and everything beyond ASCII, as the server's scanner has it.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii()
}

/// The quoted identifier that a text begins with, and what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut rest = text.get(1..).unwrap_or_default();
    while let Some((part, after)) = rest.split_once('"') {
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return (name, after),
        }
    }
    name.push_str(rest);
    (name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_of_literals_count() {
        let used = |filter: &str, name: &str| Mentions::of(filter).contain(name);
        for (filter, name) in [
            ("status = 'open'", "status"),
            ("STATUS = 'open'", "status"),
            ("\"Status\"='open'", "Status"),
            ("id>1AND status is null", "status"),
            ("lower(status)='x'", "status"),
            ("orders.status = 'x'", "status"),
            ("\"orders\".\"status\" = 'x'", "status"),
            ("status(orders) = 'x'", "status"),
            ("\"a\"\"b\" > 1", "a\"b"),
            ("\"it's\" > 1 and status = 'x'", "it's"),
            ("\"it's\" > 1 and status = 'x'", "status"),
            ("x = 'it''s' and status = 'y'", "status"),
            ("größe > 1", "größe"),
            ("\"with space\" > 1", "with space"),
            ("x = ''and status = ''", "status"),
            ("id::int4=status", "status"),
            ("id::\"status\" > 1", "status"),
        ] {
            assert!(used(filter, name), "{filter} uses {name}");
        }
        for (filter, name) in [
            ("state = 'status'", "status"),
            ("state = 'it''s status'", "status"),
            ("\"Status\" = 'x'", "status"),
            ("Status = 'x'", "Status"),
            ("statuses = 1 or my_status = 2 or status2 = 3", "status"),
            ("\"my status\" = 1", "status"),
            ("x = ' \" status \" '", "status"),
            ("id > 10", "status"),
            ("id::status > 10 and id :: status is null", "status"),
        ] {
            assert!(!used(filter, name), "{filter} does not use {name}");
        }
    }

    #[test]
    fn what_is_unclear_counts_as_used() {
        for filter in [
            r"x = E'a\'' or status = 'b'",
            r"x = 'a\' or status = 'b'",
            "x = $$it's$$ or status = 'b'",
            "x = $q$'$q$ or status = 'b'",
            "x /* ' */ = 1 or status = '",
            "x = 1 -- it's \n or STATUS = 'b'",
            r#"x = 1 or "a""status" = '$'"#,
        ] {
            assert!(Mentions::of(filter).contain("status"), "{filter}");
        }
        assert!(Mentions::of(r#"x = '$' or "a""b" = 1"#).contain("a\"b"));
        assert!(Mentions::of("x = '$' or \"Größe\" = 1").contain("Größe"));
        assert!(!Mentions::of("x = '$1'").contain("status"));
        assert!(Mentions::of("U&\"d!0061ta\" uescape '!' = 'x'").contain("data"));
    }

    #[test]
    fn identifiers_that_are_too_long_are_cut_off() {
        let name = "x".repeat(63);
        let filter = format!("{name}yz = 1");
        assert!(Mentions::of(&filter).contain(&name));
        assert!(!Mentions::of(&filter).contain("x"));
    }
}
