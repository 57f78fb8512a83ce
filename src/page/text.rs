//! The text of a message as HTML: escaped, with links to the web, and with no more than one blank line in a row.
//!
//! Browsers keep the other line breaks and blanks (`white-space: pre-wrap`). The script does the same for new messages.

use std::borrow::Cow;

/// What a link begins with, in any case. Other schemes are never linked, because some of them run scripts.
const SCHEMES: [&str; 2] = ["http://", "https://"];

/// Lines of a message that are shown without a fold, and the characters that fit a line of the widest page.
const FOLD_LINES: usize = 15;
const LINE_CHARS: usize = 80;

/// Appends a text of several lines with its links.
pub(super) fn push_linked(out: &mut String, text: &str) {
    // Most messages have no link, and are searched only once.
    if !text.contains("://") {
        return push_escaped(out, text);
    }
    let mut rest = text;
    while let Some((before, link, after)) = next_link(rest) {
        push_escaped(out, before);
        out.push_str("<a href=\"");
        push_escaped(out, link);
        out.push_str("\" rel=\"nofollow ugc noopener\">");
        push_escaped(out, link);
        out.push_str("</a>");
        rest = after;
    }
    push_escaped(out, rest);
}

/// Appends text as HTML, for an element or a quoted attribute.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|b| matches!(b, b'&' | b'<' | b'>' | b'"' | b'\'')) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

/// Whether a text without gaps is so long that a list shows its beginning only.
pub(super) fn is_long(text: &str) -> bool {
    let line_ends = text.bytes().filter(|b| *b == b'\n').count();
    // Bytes are counted faster than characters, and are never fewer.
    if line_ends + 1 + text.len() / LINE_CHARS <= FOLD_LINES {
        return false;
    }
    text.split('\n').map(|line| line.chars().count().div_ceil(LINE_CHARS).max(1)).sum::<usize>() > FOLD_LINES
}

/// The first words of a text, on one line of at most `limit` characters and an ellipsis. Controls are left out: they would
/// turn the words around that follow in a title.
pub(super) fn beginning(text: &str, limit: usize) -> String {
    let is_control =
        |c: &char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(c) || ('\u{2066}'..='\u{2069}').contains(c);
    let (mut line, mut length) = (String::new(), 0);
    for word in text.split_whitespace() {
        let word: String = word.chars().filter(|c| !is_control(c)).collect();
        let (space, word_length) = (usize::from(length > 0), word.chars().count());
        if length + space + word_length > limit {
            // A text without blanks is cut in its only word.
            line.extend(word.chars().take(if length == 0 { limit } else { 0 }));
            line.push('…');
            break;
        }
        line.extend(Some(' ').filter(|_| space > 0));
        line.push_str(&word);
        length += space + word_length;
    }
    line
}

/// The text before the first link, the link, and the text after it.
fn next_link(text: &str) -> Option<(&str, &str, &str)> {
    let mut searched = 0;
    loop {
        let separator = searched + text[searched..].find("://")?;
        searched = separator + "://".len();
        let start = SCHEMES.iter().rev().find_map(|scheme| {
            let start = searched.checked_sub(scheme.len())?;
            text.get(start..searched)?.eq_ignore_ascii_case(scheme).then_some(start)
        });
        let Some(start) = start else { continue };
        let end = text[searched..].find(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"'));
        let address = &text[start..end.map_or(text.len(), |end| searched + end)];
        // Punctuation after an address belongs to the sentence.
        let link = address.trim_end_matches(['.', ',', ':', ';', '!', '?', '\'', ')', ']', '}']);
        if link.len() > searched - start {
            return Some((&text[..start], link, &text[start + link.len()..]));
        }
    }
}

/// The text with one blank line in place of several.
pub(super) fn shorten_gaps(text: &str) -> Cow<'_, str> {
    if !text.contains("\n\n") && !["\n ", "\n\t", "\n\r"].iter().any(|gap| text.contains(gap)) {
        return Cow::Borrowed(text);
    }
    let mut shortened = String::with_capacity(text.len());
    let mut blank_lines = 0;
    for (at, line) in text.split('\n').enumerate() {
        blank_lines = if line.trim_matches([' ', '\t', '\r']).is_empty() { blank_lines + 1 } else { 0 };
        if blank_lines > 1 {
            continue;
        }
        if at > 0 {
            shortened.push('\n');
        }
        shortened.push_str(line);
    }
    Cow::Owned(shortened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(text: &str) -> String {
        let mut out = String::new();
        push_linked(&mut out, &shorten_gaps(text));
        out
    }

    fn link(address: &str) -> String {
        format!("<a href=\"{address}\" rel=\"nofollow ugc noopener\">{address}</a>")
    }

    #[test]
    fn addresses_of_the_web_are_links_without_the_punctuation_after_them() {
        for (text, want) in [
            ("https://example.org", link("https://example.org")),
            ("see http://a.example/b?c=d#e, and", format!("see {}, and", link("http://a.example/b?c=d#e"))),
            ("(HTTPS://Example.org/)", format!("({})", link("HTTPS://Example.org/"))),
            (
                "https://a.example https://b.example!",
                format!("{} {}!", link("https://a.example"), link("https://b.example")),
            ),
            ("é https://a.example/é.", format!("é {}.", link("https://a.example/é"))),
            ("https://a.example/?q='x'&y", link("https://a.example/?q=&#39;x&#39;&amp;y")),
        ] {
            assert_eq!(html(text), want, "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_link_and_no_address_leaves_its_attribute() {
        for text in [
            "javascript://alert(1)",
            "ftp://a.example",
            "https://",
            "http://...",
            "://",
            "é://x",
            "s://x",
            "data:text/html,x",
        ] {
            assert_eq!(html(text), text);
        }
        let hostile = html("https://a.example/\"onmouseover=\"x() https://b.example/<script>");
        assert!(hostile.starts_with(&link("https://a.example/")), "{hostile}");
        assert!(!hostile.contains("<script") && !hostile.contains("\"onmouseover"), "{hostile}");
    }

    #[test]
    fn several_blank_lines_become_one() {
        for (text, want) in [
            ("a\nb", "a\nb"),
            ("a\n\nb", "a\n\nb"),
            ("a\n\n\n\nb", "a\n\nb"),
            ("a\n \n\t\n\nb\n  c", "a\n \nb\n  c"),
            ("a\r\n\r\n\r\nb", "a\r\n\r\nb"),
        ] {
            assert_eq!(html(text), want);
        }
    }

    #[test]
    fn a_text_of_more_than_fifteen_shown_lines_is_long() {
        let long = |text: &str| is_long(&shorten_gaps(text));
        let lines = |count: usize| vec!["x"; count].join("\n");
        assert_eq!([lines(15), lines(16)].map(|text| long(&text)), [false, true]);
        assert_eq!([15 * 80, 15 * 80 + 1].map(|length| long(&"x".repeat(length))), [false, true]);
        assert_eq!([15 * 80, 15 * 80 + 1].map(|length| long(&"é".repeat(length))), [false, true]);
        let wide = format!("{}\n{}", "x".repeat(81), lines(13));
        assert_eq!([wide.clone(), format!("{wide}\nx")].map(|text| long(&text)), [false, true], "two lines of 80");
        assert!(long(&"x\n\n".repeat(8)), "an empty line is a line");
        assert!(!long(&format!("x{}y", "\n".repeat(50))), "gaps are shortened first");
    }

    #[test]
    fn the_beginning_is_one_line_of_complete_words() {
        for (text, want) in [
            ("", ""),
            ("one two", "one two"),
            ("  one\n\ttwo ", "one two"),
            ("one two three", "one two…"),
            ("1234567890", "1234567890"),
            ("12345678901", "1234567890…"),
            ("éééééééééé", "éééééééééé"),
            ("a \u{202e}b\u{2067}c\u{0}", "a bc"),
        ] {
            assert_eq!(beginning(text, 10), want, "{text:?}");
        }
    }
}
