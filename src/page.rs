//! The pages and the feed: templates that are compiled in, and the only place where text becomes HTML or XML.
//!
//! A placeholder is `{{name}}`. All links are relative, so that a proxy may put the board below any path.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::text::push_escaped;
use crate::message::{Message, Timestamp};

pub use self::feed::Feed;

mod feed;
mod text;

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
    templates: Templates,
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

/// A page in two halves, with room for its form's idempotency key between them.
#[derive(Debug, Clone)]
pub struct SplitPage {
    /// All before the key.
    pub before: Arc<Vec<u8>>,
    /// All after the key.
    pub after: Arc<Vec<u8>>,
}

/// The values of a form that is shown once more.
pub struct FormValues<'a> {
    /// The text as it was sent.
    pub text: &'a str,
    /// The key that the form will have.
    pub key: &'a str,
    /// What is wrong.
    pub problem: &'a str,
}

/// How many folders a page's path is below that of the board: its links go up as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth(usize);

/// Folders of a path that links go up. Only paths that do not exist have more than one.
const MAX_DEPTH: usize = 16;

/// The files in `templates/`, split at their placeholders.
struct Templates {
    page: Template,
    form: Template,
    list: Template,
    message: Template,
    error: Template,
}

struct Template {
    /// Text, and the name of the placeholder after it.
    parts: Vec<(&'static str, &'static str)>,
    /// The text after the last placeholder, without the file's last line end.
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
        let templates = Templates {
            page: Template::new(include_str!("../templates/page.html")),
            form: Template::new(include_str!("../templates/form.html")),
            list: Template::new(include_str!("../templates/list.html")),
            message: Template::new(include_str!("../templates/message.html")),
            error: Template::new(include_str!("../templates/error.html")),
        };
        Pages { title: title.to_owned(), host: host.to_owned(), max_chars, assets: assets.into(), templates }
    }

    /// The asset with this name.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.iter().find(|asset| asset.name == name)
    }

    /// The icon, for clients that request the conventional `/favicon.ico`.
    pub fn icon(&self) -> &'static str {
        ICON
    }

    /// The form and these messages, newest first. `older` is the id before which there are more; `newest` is false on the
    /// pages after the first.
    pub fn board(&self, messages: &[Message], older: Option<u64>, newest: bool) -> SplitPage {
        let mut split = 0;
        let mut page = self.page(Depth::ROOT, |out| {
            self.form(out, &FormValues { text: "", key: "", problem: "" }, &mut split);
            self.list(out, messages, older, newest);
        });
        let after = page.split_off(split);
        SplitPage { before: Arc::new(page.into_bytes()), after: Arc::new(after.into_bytes()) }
    }

    /// The form alone, with what is wrong next to it and the text kept. Needs no database.
    pub fn returned_form(&self, values: &FormValues<'_>) -> String {
        self.page(Depth::ROOT, |out| {
            self.form(out, values, &mut 0);
            out.push_str("<p><a href=\"./\">Back to the messages</a></p>");
        })
    }

    /// A page about an error, for a request whose path has this `depth`.
    pub fn error(&self, heading: &str, message: &str, depth: Depth) -> String {
        self.page(depth, |out| {
            self.templates.error.render(out, |out, name| match name {
                "heading" => push_escaped(out, heading),
                "message" => push_escaped(out, message),
                "root" => depth.push_root(out),
                unknown => out.push_str(unknown),
            });
        })
    }

    fn page(&self, depth: Depth, mut main: impl FnMut(&mut String)) -> String {
        let mut page = String::with_capacity(16 * 1024);
        self.templates.page.render(&mut page, |out, name| match name {
            "title" => push_escaped(out, &self.title),
            "root" => depth.push_root(out),
            "style" => out.push_str(&self.assets[0].name),
            "script" => out.push_str(&self.assets[1].name),
            "icon" => out.push_str(&self.assets[2].name),
            "main" => main(out),
            "host" => push_escaped(out, &self.host),
            "version" => out.push_str(env!("CARGO_PKG_VERSION")),
            unknown => out.push_str(unknown),
        });
        page
    }

    /// Sets `split` to the position of the key.
    fn form(&self, out: &mut String, values: &FormValues<'_>, split: &mut usize) {
        self.templates.form.render(out, |out, name| match name {
            "text" => push_escaped(out, values.text),
            "key" => {
                *split = out.len();
                push_escaped(out, values.key);
            }
            "problem" => push_escaped(out, values.problem),
            "max_chars" => print(out, format_args!("{}", self.max_chars)),
            unknown => out.push_str(unknown),
        });
    }

    fn list(&self, out: &mut String, messages: &[Message], older: Option<u64>, newest: bool) {
        self.templates.list.render(out, |out, name| match name {
            "messages" => messages.iter().for_each(|message| self.row(out, message)),
            "empty" if messages.is_empty() => out.push_str("No messages yet."),
            "empty" => {}
            "links" => {
                if !newest {
                    out.push_str("<a href=\"./\">Newest</a>");
                }
                if let Some(id) = older {
                    print(out, format_args!("<a href=\"./?before={id}\" rel=\"next\">Older</a>"));
                }
            }
            unknown => out.push_str(unknown),
        });
    }

    fn row(&self, out: &mut String, message: &Message) {
        self.templates.message.render(out, |out, name| match name {
            "id" => print(out, format_args!("{}", message.id)),
            "text" => text::push_message(out, &message.text),
            "times" => {
                time(out, "", message.created_at, "");
                time(out, " <small>edited ", message.edited_at, "</small>");
            }
            unknown => out.push_str(unknown),
        });
    }
}

impl Depth {
    /// The board's own page, and the form's target beside it.
    pub const ROOT: Depth = Depth(0);

    /// The depth of the path of a request.
    pub fn of(path: &str) -> Depth {
        Depth(path.bytes().filter(|b| *b == b'/').count().saturating_sub(1).min(MAX_DEPTH))
    }

    /// Appends what leads from the page to the board.
    fn push_root(self, out: &mut String) {
        match self.0 {
            0 => out.push_str("./"),
            folders => (0..folders).for_each(|_| out.push_str("../")),
        }
    }
}

impl Template {
    fn new(source: &'static str) -> Template {
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
    fn render(&self, out: &mut String, mut fill: impl FnMut(&mut String, &str)) {
        for (text, name) in &self.parts {
            out.push_str(text);
            fill(out, name);
        }
        out.push_str(self.rest);
    }
}

/// A time for people and programs. HTML takes an element's text for its time, so a `datetime` attribute is not needed: it
/// would be two fifths of a page of short messages.
fn time(out: &mut String, before: &str, moment: Option<Timestamp>, after: &str) {
    if let Some(moment) = moment {
        out.extend([before, "<time>"]);
        moment.push_readable(out);
        out.extend(["</time>", after]);
    }
}

fn print(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string can't fail.
    let _ = out.write_fmt(arguments);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn pages() -> Pages {
        Pages::new("Title", "host", 2000)
    }

    fn joined(split: &SplitPage) -> String {
        let bytes = [split.before.as_slice(), b"KEY", split.after.as_slice()].concat();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn the_templates_have_the_placeholders_that_the_code_fills() {
        let Pages { templates, .. } = pages();
        for (template, want) in [
            (&templates.page, "title title root icon root style root script root title main host version"),
            (&templates.form, "max_chars text key problem max_chars"),
            (&templates.list, "messages empty links"),
            (&templates.message, "id text times"),
            (&templates.error, "heading message root"),
        ] {
            let names: Vec<&str> = template.parts.iter().map(|(_, name)| *name).collect();
            assert_eq!(names.join(" "), want);
        }
    }

    #[test]
    fn text_from_people_is_escaped_wherever_it_stands() {
        let hostile = "<script>alert('x')</script>\"&amp;{{key}}";
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;amp;{{key}}";
        let pages = Pages::new(hostile, hostile, 2000);
        let values = FormValues { text: hostile, key: hostile, problem: hostile };
        for page in [
            joined(&pages.board(&[message(1, hostile)], None, true)),
            pages.returned_form(&values),
            pages.error(hostile, hostile, Depth::ROOT),
        ] {
            assert!(page.contains(escaped) && !page.contains("<script>"), "{page}");
        }
    }

    #[test]
    fn the_key_goes_between_the_halves() {
        let page = joined(&pages().board(&[], None, true));
        assert!(page.contains("name=\"key\" value=\"KEY\""), "{page}");
    }

    #[test]
    fn a_page_shows_messages_times_and_the_way_to_older_ones() {
        let time = Timestamp { year: 2026, month: 1, day: 2, hour: 3, minute: 4, second: 5, microsecond: 6 };
        let edited = Message { created_at: Some(time), edited_at: Some(time), ..message(8, "a\nb") };
        let page = joined(&pages().board(&[edited, message(7, "old")], Some(7), false));
        let time = "<time>2026-01-02 03:04:05.000006Z</time>";
        let item = format!("<li id=\"m8\"><p dir=\"auto\">a\nb</p>{time} <small>edited {time}</small></li>");
        assert!(page.contains(&item), "{page}");
        assert!(page.contains("<li id=\"m7\"><p dir=\"auto\">old</p></li>"), "no time for a row that has none");
        assert!(page.contains("href=\"./?before=7\" rel=\"next\"") && page.contains("<a href=\"./\">Newest</a>"));
        assert!(!page.contains("No messages yet."));
    }

    #[test]
    fn an_empty_board_says_so() {
        let page = joined(&pages().board(&[], None, true));
        assert!(page.contains("No messages yet.") && !page.contains("Older"));
    }

    #[test]
    fn all_links_are_relative_and_lead_to_the_board_from_any_depth() {
        let values = FormValues { text: "", key: "", problem: "" };
        let board = joined(&pages().board(&[message(1, "a")], Some(1), false));
        for (page, root) in [
            (board, "./"),
            (pages().returned_form(&values), "./"),
            (pages().error("h", "m", Depth::of("/submit")), "./"),
            (pages().error("h", "m", Depth::of("/messages/7")), "../"),
            (pages().error("h", "m", Depth::of("/a/b//")), "../../../"),
        ] {
            let links: Vec<&str> = ["href=\"", "src=\"", "action=\""]
                .iter()
                .flat_map(|attribute| page.split(attribute).skip(1))
                .filter_map(|rest| rest.split('"').next())
                .collect();
            assert!(links.len() >= 4, "{page}");
            for link in links {
                let rest = link.strip_prefix(root).unwrap_or_else(|| panic!("{link} in {page}"));
                assert!(!rest.starts_with(['.', '/']), "{link}");
            }
        }
        assert_eq!(Depth::of(&"/".repeat(5000)), Depth(MAX_DEPTH));
    }

    #[test]
    fn an_assets_name_changes_with_its_content() {
        let pages = pages();
        let page = joined(&pages.board(&[], None, true));
        for asset in &pages.assets {
            assert!(page.contains(&format!("./assets/{}", asset.name)), "{}", asset.name);
            assert_eq!(pages.asset(&asset.name).map(|a| a.content), Some(asset.content));
        }
        assert!(pages.asset("style.css").is_none());
    }
}
