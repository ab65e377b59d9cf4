//! The module path that a go.mod declares, found as the go command finds it before it parses
//! the file: in the first line that looks like it. Pure.

/// Empty if there is none.
pub(super) fn path(go_mod: &[u8]) -> String {
    for line in go_mod.split(|b| *b == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let line = line.split("//").next().unwrap_or_default().trim();
        let Some(rest) = line.strip_prefix("module") else {
            continue;
        };
        let declared = rest.trim();
        if declared.is_empty() || declared.len() == rest.len() {
            continue;
        }
        return match declared.as_bytes()[0] {
            b'"' => unquoted(declared, '"'),
            b'`' => unquoted(declared, '`'),
            _ => declared.to_owned(),
        };
    }
    String::new()
}

/// No module path has a character that a quoted text would need an escape for.
fn unquoted(text: &str, quote: char) -> String {
    let inner = text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    match inner {
        Some(inner) if !inner.contains([quote, '\\']) => inner.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_declares_counts() {
        for (text, declared) in [
            ("module a.example/x\n", "a.example/x"),
            (
                "// module no\r\n\tmodule  a.example/x // yes\r\nmodule b\n",
                "a.example/x",
            ),
            ("module \"a.example/x\"", "a.example/x"),
            ("module `a.example/x`", "a.example/x"),
            (
                "modules a\nmodule\nmodule // none\n\nmodule\tb.example/y",
                "b.example/y",
            ),
            ("module \"broken", ""),
            ("go 1.22\n", ""),
            ("", ""),
        ] {
            assert_eq!(path(text.as_bytes()), declared, "{text}");
        }
        assert_eq!(path(b"\xff\nmodule a.example/x"), "a.example/x");
    }
}
