//! Version queries: what may stand in `@v/QUERY.info` and isn't one of the module's versions.

use std::fmt;

use super::{
    GrammarError,
    escape::{push_encoded, push_escaped},
    path::check_element,
};

/// A branch, a tag, a commit or a version prefix, by the rules of x/mod's `module.EscapeVersion`:
/// ASCII letters, digits, spaces and ``#$%&()+,-.=@[]^_{}~``. A branch with `/` in its name can't be
/// asked for: the go command refuses it too.
///
/// Made by [`Request::info`](super::Request::info) and [`Request::parse`](super::Request::parse)
/// only: whether a text is a query or a version depends on the module path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Query(Box<str>);

impl Query {
    /// The query as the user typed it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The query as file names write it: upper-case letters as `!` + lower case.
    pub fn escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len() + 4);
        push_escaped(&mut out, &self.0);
        out
    }

    pub(super) fn new(text: &str) -> Result<Self, GrammarError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"#$%&()+,-.=@[]^_{}~ ".contains(&b);
        check_element(text, allowed)?;
        Ok(Self(text.into()))
    }

    /// The normal form in a URL: `!`-escaped, then percent-encoded where RFC 3986 doesn't allow the
    /// character in a path. Go's `url.PathEscape` encodes `!`, `(`, `)` and `,` as well; both
    /// decode to the same.
    pub(super) fn push_encoded(&self, out: &mut String) {
        push_encoded(out, &self.0);
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{GrammarError::*, *};

    #[test]
    fn what_the_go_command_can_ask_is_a_query() {
        for text in [
            "master",
            "v1",
            "v1.2",
            "v1.2.3+meta",
            "4cf3ae1",
            ".hidden",
            "a@b",
            "-x",
            "~1",
            "x~1",
            "a b",
            "50%",
            "#1",
            "[x]{y}^(z)",
            "a,b",
            "HEAD",
            "list",
            "latest",
        ] {
            assert_eq!(Query::new(text).map(|q| q.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_it_refuses_is_none() {
        let cases = [
            ("", EmptyElement),
            (".", TrailingDot),
            ("..", DoubleDot),
            ("a..b", DoubleDot),
            ("v1.", TrailingDot),
            ("feature/x", BadCharacter('/')),
            ("a!b", BadCharacter('!')),
            ("a:b", BadCharacter(':')),
            ("a\\b", BadCharacter('\\')),
            ("a*", BadCharacter('*')),
            ("a;b", BadCharacter(';')),
            ("a'b", BadCharacter('\'')),
            (">=v1", BadCharacter('>')),
            ("a\nb", BadCharacter('\n')),
            ("größe", BadCharacter('ö')),
            ("con", ReservedName),
            ("Aux.x", ReservedName),
        ];
        for (text, want) in cases {
            assert_eq!(Query::new(text), Err(want), "{text:?}");
        }
    }
}
