//! A file in `templates/`, split at its placeholders, which are written `{{name}}`.

use std::fmt::{Arguments, Write};

/// A template. It escapes nothing: that is the work of what fills it.
pub(super) struct Template {
    /// Text, and the name of the placeholder after it.
    pub(super) parts: Vec<(&'static str, &'static str)>,
    /// The text after the last placeholder, without the file's last line end.
    rest: &'static str,
}

impl Template {
    /// Splits `source`.
    pub(super) fn new(source: &'static str) -> Template {
        let source = source.strip_suffix('\n').unwrap_or(source);
        let mut pieces = source.split("{{");
        let mut parts = Vec::new();
        let mut text = pieces.next().unwrap_or_default();
        for piece in pieces {
            let (name, after) = piece.split_once("}}").unwrap_or((piece, ""));
            parts.push((text, name));
            text = after;
        }
        Template { parts, rest: text }
    }

    /// Writes the template to `out`; `fill` writes the value of each placeholder.
    pub(super) fn render(&self, out: &mut String, mut fill: impl FnMut(&mut String, &str)) {
        for (text, name) in &self.parts {
            out.push_str(text);
            fill(out, name);
        }
        out.push_str(self.rest);
    }

    /// The names of the placeholders.
    #[cfg(test)]
    pub(super) fn names(&self) -> String {
        self.parts.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }
}

/// Appends numbers and the like, which need no escaping.
pub(super) fn print(out: &mut String, arguments: Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = out.write_fmt(arguments);
}
