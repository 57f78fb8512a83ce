//! The pages: templates that are compiled in, and the only place where text becomes HTML.
//!
//! A placeholder is `{{name}}`. One that the code does not fill in its place, and one that it fills in vain, fails the build.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::message::{Message, Timestamp};

const PAGE: Template<8> = Template::of(
    include_str!("../templates/page.html"),
    ["title", "icon", "style", "script", "title", "main", "host", "version"],
);
const FORM: Template<4> = Template::of(include_str!("../templates/form.html"), ["text", "key", "problem", "max_chars"]);
const LIST: Template<3> = Template::of(include_str!("../templates/list.html"), ["messages", "empty", "links"]);
const MESSAGE: Template<3> = Template::of(include_str!("../templates/message.html"), ["id", "text", "times"]);
const ERROR: Template<2> = Template::of(include_str!("../templates/error.html"), ["heading", "message"]);

const STYLE: &str = include_str!("../templates/style.css");
const SCRIPT: &str = include_str!("../templates/app.js");
const ICON: &str = include_str!("../templates/icon.svg");

/// What a page may load and do: its own style and script, and nothing from other hosts.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Renders all pages of one board.
pub struct Pages {
    title: String,
    host: String,
    max_chars: usize,
    assets: Vec<Asset>,
}

/// A file that pages load, under a name that changes with its content.
pub struct Asset {
    /// The last part of its path.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// What it holds.
    pub content: &'static str,
}

/// A page without its form's idempotency key, which goes between the two halves.
#[derive(Debug, Clone)]
pub struct SplitPage {
    /// All before the key.
    pub before: Arc<Vec<u8>>,
    /// All behind the key.
    pub after: Arc<Vec<u8>>,
}

/// A form that comes back to the person who sent it.
pub struct FormValues<'a> {
    /// The text as it was sent.
    pub text: &'a str,
    /// The key that the form will have.
    pub key: &'a str,
    /// What is wrong.
    pub problem: &'a str,
}

/// Source text that was taken apart, and its placeholders checked, when it was compiled.
struct Template<const N: usize> {
    /// Text, and the name of the placeholder behind it.
    parts: [(&'static str, &'static str); N],
    /// The text behind the last one, without the file's last line end.
    rest: &'static str,
}

impl Pages {
    /// The pages of a board called `title`, served by `host`, that takes messages of `max_chars` characters.
    pub fn new(title: &str, host: &str, max_chars: usize) -> Pages {
        let assets = [
            ("style", "css", "text/css; charset=utf-8", STYLE),
            ("app", "js", "text/javascript; charset=utf-8", SCRIPT),
            ("icon", "svg", "image/svg+xml", ICON),
        ];
        let assets = assets.map(|(stem, extension, content_type, content)| {
            let hash =
                Sha256::digest(content).iter().take(6).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
            Asset { name: format!("{stem}-{hash}.{extension}"), content_type, content }
        });
        Pages { title: title.to_owned(), host: host.to_owned(), max_chars, assets: assets.into() }
    }

    /// The asset with this name.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.iter().find(|asset| asset.name == name)
    }

    /// The icon, for clients that ask for it by its old name.
    pub fn icon(&self) -> &'static str {
        ICON
    }

    /// The form and these messages, newest first. `older` is the id before which there are more; `newest` is false on the
    /// pages behind the first.
    pub fn board(&self, messages: &[Message], older: Option<u64>, newest: bool) -> SplitPage {
        let mut split = 0;
        let mut page = self.page(|out| {
            self.form(out, &FormValues { text: "", key: "", problem: "" }, &mut split);
            list(out, messages, older, newest);
        });
        let after = page.split_off(split);
        SplitPage { before: Arc::new(page.into_bytes()), after: Arc::new(after.into_bytes()) }
    }

    /// The form alone, with what is wrong beside it and the text kept. Needs no database.
    pub fn returned_form(&self, returned: &FormValues<'_>) -> String {
        self.page(|out| {
            self.form(out, returned, &mut 0);
            out.push_str("<p><a href=\"/\">Back to the messages</a></p>");
        })
    }

    /// A page that says what went wrong.
    pub fn error(&self, heading: &str, message: &str) -> String {
        self.page(|out| {
            ERROR.render(out, |out, name| match name {
                "heading" => escape(out, heading),
                _ => escape(out, message),
            });
        })
    }

    fn page(&self, mut main: impl FnMut(&mut String)) -> String {
        let mut page = String::with_capacity(16 * 1024);
        PAGE.render(&mut page, |out, name| match name {
            "title" => escape(out, &self.title),
            "style" => self.asset_path(out, 0),
            "script" => self.asset_path(out, 1),
            "icon" => self.asset_path(out, 2),
            "host" => escape(out, &self.host),
            "version" => out.push_str(env!("CARGO_PKG_VERSION")),
            _ => main(out),
        });
        page
    }

    /// `split` becomes the place of the key.
    fn form(&self, out: &mut String, returned: &FormValues<'_>, split: &mut usize) {
        FORM.render(out, |out, name| match name {
            "text" => escape(out, returned.text),
            "key" => {
                *split = out.len();
                escape(out, returned.key);
            }
            "problem" => escape(out, returned.problem),
            _ => print(out, format_args!("{}", self.max_chars)),
        });
    }

    fn asset_path(&self, out: &mut String, index: usize) {
        out.push_str("/assets/");
        out.push_str(&self.assets[index].name);
    }
}

fn list(out: &mut String, messages: &[Message], older: Option<u64>, newest: bool) {
    LIST.render(out, |out, name| match name {
        "messages" => messages.iter().for_each(|message| row(out, message)),
        "empty" if messages.is_empty() => out.push_str("No messages yet."),
        "empty" => {}
        _ => {
            if !newest {
                out.push_str("<a href=\"/\">Newest</a>");
            }
            if let Some(id) = older {
                print(out, format_args!("<a href=\"/?before={id}\" rel=\"next\">Older</a>"));
            }
        }
    });
}

fn row(out: &mut String, message: &Message) {
    MESSAGE.render(out, |out, name| match name {
        "id" => print(out, format_args!("{}", message.id)),
        "text" => escape(out, &message.text),
        _ => {
            time(out, "", message.created_at, "");
            time(out, " <small>edited ", message.edited_at, "</small>");
        }
    });
}

/// A time, to be read by people and by programs: HTML takes an element's text for its time. Said once more in an attribute
/// it was two fifths of what a page of short messages weighs.
fn time(out: &mut String, before: &str, moment: Option<Timestamp>, after: &str) {
    if let Some(moment) = moment {
        out.extend([before, "<time>"]);
        moment.push_readable(out);
        out.extend(["</time>", after]);
    }
}

/// Text as HTML, in an element or in a quoted attribute.
fn escape(out: &mut String, text: &str) {
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

fn print(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = out.write_fmt(arguments);
}

impl<const N: usize> Template<N> {
    /// A template that has these placeholders, in their order; anything else fails the build.
    const fn of(source: &'static str, names: [&'static str; N]) -> Template<N> {
        let mut parts = [("", ""); N];
        let mut rest = source;
        let mut n = 0;
        while n < N {
            let at = braces(rest, b'{');
            assert!(at < rest.len(), "the code fills a placeholder that the template does not have");
            let (text, behind) = rest.split_at(at);
            let behind = behind.split_at(2).1;
            let (name, behind) = behind.split_at(braces(behind, b'}'));
            assert!(is_same(name, names[n]), "a template has a placeholder where the code fills another one");
            parts[n] = (text, names[n]);
            rest = behind.split_at(2).1;
            n += 1;
        }
        assert!(braces(rest, b'{') == rest.len(), "a template has a placeholder that the code does not fill");
        assert!(rest.as_bytes()[rest.len() - 1] == b'\n', "a file ends with a line end");
        Template { parts, rest: rest.split_at(rest.len() - 1).0 }
    }

    /// Writes the template to `out`; `fill` writes what stands for each name.
    fn render(&self, out: &mut String, mut fill: impl FnMut(&mut String, &'static str)) {
        for (text, name) in self.parts {
            out.push_str(text);
            fill(out, name);
        }
        out.push_str(self.rest);
    }
}

/// Where the first two of these braces stand; the length of the text if they do not.
const fn braces(text: &str, brace: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        if bytes[at] == brace && bytes[at + 1] == brace {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn whole(halves: &SplitPage) -> String {
        let bytes = [halves.before.as_slice(), b"KEY", halves.after.as_slice()].concat();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_from_people_is_escaped_wherever_it_stands() {
        let hostile = "<script>alert('x')</script>\"&amp;{{key}}";
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;amp;{{key}}";
        let pages = Pages::new(hostile, hostile, 2000);
        let returned = FormValues { text: hostile, key: hostile, problem: hostile };
        for page in [
            whole(&pages.board(&[message(1, hostile)], None, true)),
            pages.returned_form(&returned),
            pages.error(hostile, hostile),
        ] {
            assert!(page.contains(escaped) && !page.contains("<script>"), "{page}");
        }
    }

    #[test]
    fn the_key_goes_between_the_halves() {
        let page = whole(&Pages::new("Title", "host", 2000).board(&[], None, true));
        assert!(page.contains("name=\"key\" value=\"KEY\""), "{page}");
    }

    #[test]
    fn a_page_shows_messages_times_and_the_way_to_older_ones() {
        let time = Timestamp { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5, microsecond: 6 };
        let pages = Pages::new("Title", "host", 2000);
        let edited = Message { created_at: Some(time), edited_at: Some(time), ..message(8, "a\nb") };
        let page = whole(&pages.board(&[edited, message(7, "old")], Some(7), false));
        let time = "<time>2026-01-02 03:04:05.000006Z</time>";
        let item = format!("<li id=\"m8\"><p dir=\"auto\">a\nb</p>{time} <small>edited {time}</small></li>");
        assert!(page.contains(&item), "{page}");
        assert!(page.contains("<li id=\"m7\"><p dir=\"auto\">old</p></li>"), "no time for a row that has none");
        assert!(page.contains("href=\"/?before=7\"") && page.contains("<a href=\"/\">Newest</a>"));
        assert!(!page.contains("No messages yet."));
    }

    #[test]
    fn an_empty_board_says_so() {
        let page = whole(&Pages::new("Title", "host", 2000).board(&[], None, true));
        assert!(page.contains("No messages yet.") && !page.contains("Older"));
    }

    #[test]
    fn an_assets_name_changes_with_its_content() {
        let pages = Pages::new("Title", "host", 2000);
        let page = whole(&pages.board(&[], None, true));
        for asset in &pages.assets {
            assert!(page.contains(&format!("/assets/{}", asset.name)), "{}", asset.name);
            assert_eq!(pages.asset(&asset.name).map(|a| a.content), Some(asset.content));
        }
        assert!(pages.asset("style.css").is_none());
    }
}
