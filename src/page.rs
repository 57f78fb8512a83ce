//! The pages: templates that are compiled in, and the only place where text becomes HTML.
//!
//! A placeholder is `{{name}}`. One that the code does not fill, and one that it fills in vain, fails the build.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::message::{Message, Timestamp};

const PAGE: Template = Template::of(
    include_str!("../templates/page.html"),
    &["title", "icon", "style", "script", "main", "host", "version"],
);
const FORM: Template = Template::of(include_str!("../templates/form.html"), &["text", "key", "problem", "max_chars"]);
const LIST: Template = Template::of(include_str!("../templates/list.html"), &["messages", "empty", "links"]);
const MESSAGE: Template = Template::of(include_str!("../templates/message.html"), &["id", "text", "times"]);
const ERROR: Template = Template::of(include_str!("../templates/error.html"), &["heading", "message"]);

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
pub struct Halves {
    /// All before the key.
    pub before: Arc<Vec<u8>>,
    /// All behind the key.
    pub after: Arc<Vec<u8>>,
}

/// A form that comes back to the person who sent it.
pub struct Returned<'a> {
    /// The text as it was sent.
    pub text: &'a str,
    /// The key that the form will have.
    pub key: &'a str,
    /// What is wrong.
    pub problem: &'a str,
}

/// Source text with placeholders that were checked when it was compiled.
struct Template {
    source: &'static str,
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
    pub fn board(&self, messages: &[Message], older: Option<u64>, newest: bool) -> Halves {
        let mut split = 0;
        let mut page = self.page(|out| {
            self.form(out, &Returned { text: "", key: "", problem: "" }, &mut split);
            list(out, messages, older, newest);
        });
        let after = page.split_off(split);
        Halves { before: Arc::new(page.into_bytes()), after: Arc::new(after.into_bytes()) }
    }

    /// The form alone, with what is wrong beside it and the text kept. Needs no database.
    pub fn returned_form(&self, returned: &Returned<'_>) -> String {
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
    fn form(&self, out: &mut String, returned: &Returned<'_>, split: &mut usize) {
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
            time(out, message.created_at, "", "");
            time(out, message.edited_at, " class=\"edited\"", "edited ");
        }
    });
}

fn time(out: &mut String, moment: Option<Timestamp>, class: &str, prefix: &str) {
    if let Some(t) = moment {
        print(out, format_args!("<time datetime=\"{t}\"{class}>{prefix}"));
        print(out, format_args!("{:04}-{:02}-{:02} {:02}:{:02} UTC</time>", t.year, t.month, t.day, t.hour, t.minute));
    }
}

/// Text as HTML, in an element or in a quoted attribute.
fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
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

impl Template {
    /// A template whose placeholders are these; anything else fails the build.
    const fn of(source: &'static str, names: &[&str]) -> Template {
        let bytes = source.as_bytes();
        let mut used = [false; 16];
        let mut at = 0;
        while at + 1 < bytes.len() {
            if bytes[at] == b'{' && bytes[at + 1] == b'{' {
                let mut found = false;
                let mut n = 0;
                while n < names.len() {
                    if is_placeholder(bytes, at, names[n].as_bytes()) {
                        found = true;
                        used[n] = true;
                    }
                    n += 1;
                }
                assert!(found, "a template has a placeholder that the code does not fill");
            }
            at += 1;
        }
        let mut n = 0;
        while n < names.len() {
            assert!(used[n], "the code fills a placeholder that the template does not have");
            n += 1;
        }
        Template { source }
    }

    /// Writes the template to `out`; `fill` writes what stands for each name.
    fn render(&self, out: &mut String, mut fill: impl FnMut(&mut String, &'static str)) {
        let mut rest = self.source.strip_suffix('\n').unwrap_or(self.source);
        while let Some((text, behind)) = split_at_pair(rest, b'{') {
            out.push_str(text);
            let (name, behind) = split_at_pair(behind, b'}').unwrap_or((behind, ""));
            fill(out, name);
            rest = behind;
        }
        out.push_str(rest);
    }
}

/// What stands before and behind the first two of this ASCII character. A search for text prepares more than it does here,
/// once for each message of a page.
fn split_at_pair(text: &str, character: u8) -> Option<(&str, &str)> {
    let at = text.as_bytes().windows(2).position(|pair| pair == [character, character])?;
    Some((&text[..at], &text[at + 2..]))
}

const fn is_placeholder(source: &[u8], at: usize, name: &[u8]) -> bool {
    let end = at + 2 + name.len();
    if end + 1 >= source.len() || source[end] != b'}' || source[end + 1] != b'}' {
        return false;
    }
    let mut n = 0;
    while n < name.len() {
        if source[at + 2 + n] != name[n] {
            return false;
        }
        n += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn whole(halves: &Halves) -> String {
        let bytes = [halves.before.as_slice(), b"KEY", halves.after.as_slice()].concat();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_from_people_is_escaped_wherever_it_stands() {
        let hostile = "<script>alert('x')</script>\"&amp;{{key}}";
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;amp;{{key}}";
        let pages = Pages::new(hostile, hostile, 2000);
        let returned = Returned { text: hostile, key: hostile, problem: hostile };
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
        assert!(page.contains("<li id=\"m8\"><p dir=\"auto\">a\nb</p><time datetime=\"2026-01-02T03:04:05.000006Z\">2026-01-02 03:04 UTC</time>"));
        assert!(page.contains("class=\"edited\">edited 2026-01-02 03:04 UTC</time>"));
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
