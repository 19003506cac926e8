//! Values as they were written, before anybody knows what type they should have.

/// One value as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Raw {
    /// `true` or `false` in the file.
    Boolean(bool),
    /// A whole number in the file; `None` when it is beyond 64 bits.
    Integer(Option<i64>),
    /// Another scalar of TOML, that no key has: its name.
    Other(&'static str),
    /// A quoted string in the file.
    Text(String),
    /// A flag or an environment variable: text that may stand for any type.
    Unquoted(String),
    /// An array.
    List(Vec<Raw>),
    /// A table, keys in order.
    Map(Vec<(String, Raw)>),
}

impl Raw {
    /// The type's name in an error message.
    pub(crate) fn found(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(Some(_)) => "a whole number",
            Self::Integer(None) => "a number beyond 64 bits",
            Self::Other(name) => name,
            Self::Text(_) | Self::Unquoted(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a table",
        }
    }
}
