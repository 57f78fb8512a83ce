//! The pages and the feed: templates that are compiled in, and the only place where text becomes HTML or XML.
//!
//! `template` splits the files, `asset` is what pages load, `depth` leads links to the board, `card` is a message, `list` is a
//! page of them, `feed` is the feed, and `text` escapes.

use std::sync::Arc;

pub use self::asset::Asset;
use self::asset::Assets;
use self::card::{Card, Fold};
pub use self::depth::Depth;
pub use self::feed::Feed;
use self::list::List;
pub use self::list::{Part, Position};
use self::template::{Template, print};
use self::text::push_escaped;
use crate::message::Message;

mod asset;
mod card;
mod depth;
mod feed;
mod list;
mod template;
mod text;

/// What a page may load and do: its own style and script, and nothing from other hosts.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The rules for crawlers, at the conventional `/robots.txt`.
pub const ROBOTS: &str = include_str!("../templates/robots.txt");

/// Characters of a message in the title of its page, and in its description.
const TITLE_CHARS: usize = 60;
const DESCRIPTION_CHARS: usize = 200;

/// What the pages of a board say and offer.
#[derive(Debug, Clone, Copy)]
pub struct PageSettings<'a> {
    /// The name of the board.
    pub title: &'a str,
    /// What the board is for.
    pub intro: Option<&'a str>,
    /// The name of this machine, where the footer shows it.
    pub host: Option<&'a str>,
    /// Characters of the longest message.
    pub max_chars: usize,
    /// Whether messages can be edited and deleted.
    pub can_moderate: bool,
    /// Whether there is a feed.
    pub has_feed: bool,
}

/// Renders all pages of one board.
pub struct Pages {
    title: String,
    /// What the board is for, as plain text.
    description: String,
    /// The same as HTML, if a setting has it.
    intro: String,
    footer: String,
    max_chars: usize,
    has_feed: bool,
    assets: Assets,
    templates: Templates,
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

/// What the head of a page says about it.
struct Head<'a> {
    /// What the page shows; nothing for the first page, which shows the board.
    subject: Option<&'a str>,
    description: &'a str,
    /// Whether search engines may list it.
    is_listed: bool,
    depth: Depth,
}

/// The files in `templates/`, split at their placeholders.
struct Templates {
    page: Template,
    form: Template,
    list: List,
    single: Template,
    card: Card,
    error: Template,
}

impl Pages {
    /// The pages of a board.
    pub fn new(settings: PageSettings<'_>) -> Pages {
        let templates = Templates {
            page: Template::new(include_str!("../templates/page.html")),
            form: Template::new(include_str!("../templates/form.html")),
            list: List::new(),
            single: Template::new(include_str!("../templates/single.html")),
            card: Card::new(),
            error: Template::new(include_str!("../templates/error.html")),
        };
        let description = settings.intro.map_or_else(
            || format!("{}: a board where everybody can read and write messages.", settings.title),
            |intro| text::beginning(intro, DESCRIPTION_CHARS),
        );
        Pages {
            title: settings.title.to_owned(),
            description,
            intro: intro(settings.intro),
            footer: footer(settings.host, settings.can_moderate),
            max_chars: settings.max_chars,
            has_feed: settings.has_feed,
            assets: Assets::new(),
            templates,
        }
    }

    /// The asset with this name.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.find(name)
    }

    /// The icon, for clients that request the conventional `/favicon.ico`.
    pub fn icon(&self) -> &Asset {
        &self.assets.icon
    }

    /// The form and these messages, newest first.
    pub fn board(&self, messages: &[Message], position: Position) -> SplitPage {
        let is_newest = position.part == Part::Newest;
        let subject = if is_newest { None } else { Some("Older messages") };
        // Search engines list each message by its own page, which stays the same.
        let head = Head { subject, is_listed: is_newest, ..self.head() };
        let mut split = 0;
        let mut page = self.page(&head, |out| {
            self.form(out, &FormValues { text: "", key: "", problem: "" }, &mut split);
            self.templates.list.push(out, &self.templates.card, messages, position);
        });
        let after = page.split_off(split);
        SplitPage { before: Arc::new(page.into_bytes()), after: Arc::new(after.into_bytes()) }
    }

    /// One message, complete, for a request whose path has this `depth`.
    pub fn message(&self, message: &Message, depth: Depth) -> String {
        let subject = text::beginning(&message.text, TITLE_CHARS);
        let description = text::beginning(&message.text, DESCRIPTION_CHARS);
        // An old row may be empty.
        let subject = Some(subject.as_str()).filter(|subject| !subject.is_empty()).unwrap_or("Message");
        let head = Head { subject: Some(subject), description: &description, depth, ..self.head() };
        self.page(&head, |out| {
            self.templates.single.render(out, |out, name| match name {
                "message" => self.templates.card.push(out, message, depth, Fold::Never),
                "root" => depth.push_root(out),
                unknown => out.push_str(unknown),
            });
        })
    }

    /// The form alone, with what is wrong next to it and the text kept. Needs no database.
    pub fn returned_form(&self, values: &FormValues<'_>) -> String {
        self.page(&Head { subject: Some("Not sent"), ..self.head() }, |out| {
            self.form(out, values, &mut 0);
            out.push_str("<nav aria-label=\"Pages\"><a href=\"./\">All messages</a></nav>");
        })
    }

    /// A page about an error, for a request whose path has this `depth`.
    pub fn error(&self, heading: &str, message: &str, depth: Depth) -> String {
        self.page(&Head { subject: Some(heading), depth, ..self.head() }, |out| {
            self.templates.error.render(out, |out, name| match name {
                "heading" => push_escaped(out, heading),
                "message" => push_escaped(out, message),
                "root" => depth.push_root(out),
                unknown => out.push_str(unknown),
            });
        })
    }

    /// The head of the first page.
    fn head(&self) -> Head<'_> {
        Head { subject: None, description: &self.description, is_listed: true, depth: Depth::ROOT }
    }

    fn page(&self, head: &Head<'_>, mut main: impl FnMut(&mut String)) -> String {
        let mut page = String::with_capacity(16 * 1024);
        self.templates.page.render(&mut page, |out, name| match name {
            "title" => push_escaped(out, &self.title),
            "subject" => push_escaped(out, head.subject.unwrap_or(&self.title)),
            "description" => push_escaped(out, head.description),
            "robots" if head.is_listed => {}
            "robots" => out.push_str("<meta name=\"robots\" content=\"noindex\">\n"),
            "tab" => {
                if let Some(subject) = head.subject {
                    push_escaped(out, subject);
                    out.push_str(" · ");
                }
                push_escaped(out, &self.title);
            }
            "root" => head.depth.push_root(out),
            "feed" if self.has_feed => {
                out.push_str("<link rel=\"alternate\" type=\"application/atom+xml\" href=\"");
                head.depth.push_root(out);
                out.push_str("feed.atom\">\n");
            }
            "feed" => {}
            "style" => out.push_str(&self.assets.style.name),
            "script" => out.push_str(&self.assets.script.name),
            "icon" => out.push_str(&self.assets.icon.name),
            "intro" => out.push_str(&self.intro),
            "main" => main(out),
            "footer" => out.push_str(&self.footer),
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
}

fn intro(intro: Option<&str>) -> String {
    let mut html = String::new();
    if let Some(intro) = intro {
        html.push_str("<p class=\"intro\" dir=\"auto\">");
        text::push_linked(&mut html, intro);
        html.push_str("</p>");
    }
    html
}

/// The footer; nothing when it would be empty. The script shows the button.
fn footer(host: Option<&str>, can_moderate: bool) -> String {
    let mut html = String::new();
    if host.is_none() && !can_moderate {
        return html;
    }
    html.push_str("<footer>");
    if let Some(host) = host {
        html.push_str("Served by ");
        push_escaped(&mut html, host);
        html.push_str(concat!(" · twotier ", env!("CARGO_PKG_VERSION")));
    }
    if can_moderate {
        html.push_str("<button type=\"button\" id=\"moderate\" hidden>Moderate</button>");
    }
    html.push_str("</footer>\n");
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: Position = Position { part: Part::Newest, has_newer: false, has_older: false };
    const FURTHER: Position = Position { part: Part::Before, has_newer: true, has_older: true };
    const SETTINGS: PageSettings<'_> =
        PageSettings { title: "Title", intro: None, host: None, max_chars: 2000, can_moderate: false, has_feed: false };

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn pages() -> Pages {
        Pages::new(SETTINGS)
    }

    fn joined(split: &SplitPage) -> String {
        let bytes = [split.before.as_slice(), b"KEY", split.after.as_slice()].concat();
        String::from_utf8(bytes).unwrap()
    }

    /// The text between two others that are there.
    #[track_caller]
    fn between<'a>(page: &'a str, from: &str, to: &str) -> &'a str {
        page.split_once(from).and_then(|(_, rest)| rest.split_once(to)).unwrap_or_else(|| panic!("{from} in {page}")).0
    }

    #[test]
    fn the_templates_have_the_placeholders_that_the_code_fills() {
        let Pages { templates, .. } = pages();
        let page = "description subject description robots tab root icon feed root style root script root title intro main \
            footer";
        for (template, want) in [
            (&templates.page, page),
            (&templates.form, "max_chars text key problem max_chars"),
            (&templates.list.0, "upper messages empty lower"),
            (&templates.single, "message root"),
            (&templates.card.0, "id fold text root id posted edited"),
            (&templates.error, "heading message root"),
        ] {
            assert_eq!(template.names(), want);
        }
    }

    #[test]
    fn text_from_people_is_escaped_wherever_it_stands() {
        let hostile = "<script>alert('x')</script>\"&amp;{{key}}";
        let escaped = "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;amp;{{key}}";
        let settings = PageSettings { title: hostile, intro: Some(hostile), host: Some(hostile), ..SETTINGS };
        let pages = Pages::new(settings);
        let values = FormValues { text: hostile, key: hostile, problem: hostile };
        for page in [
            joined(&pages.board(&[message(1, hostile)], NEWEST)),
            pages.message(&message(1, hostile), Depth::ROOT),
            pages.returned_form(&values),
            pages.error(hostile, hostile, Depth::ROOT),
        ] {
            assert!(page.contains(escaped) && !page.contains("<script>"), "{page}");
        }
    }

    #[test]
    fn the_key_goes_between_the_halves() {
        let page = joined(&pages().board(&[], NEWEST));
        assert!(page.contains("name=\"key\" value=\"KEY\""), "{page}");
    }

    #[test]
    fn a_tab_is_named_after_its_page() {
        let text = "The first words of a message\nthat is longer than the title of a tab may be";
        let beginning = "The first words of a message that is longer than the title…";
        let values = FormValues { text: "", key: "", problem: "" };
        for (page, subject, description) in [
            (joined(&pages().board(&[message(1, text)], NEWEST)), None, None),
            (joined(&pages().board(&[message(1, text)], FURTHER)), Some("Older messages"), None),
            (pages().message(&message(1, text), Depth::ROOT), Some(beginning), Some(text.replace('\n', " "))),
            (pages().message(&message(1, ""), Depth::ROOT), Some("Message"), Some(String::new())),
            (pages().returned_form(&values), Some("Not sent"), None),
            (pages().error("Wrong <address>", "m", Depth::ROOT), Some("Wrong &lt;address&gt;"), None),
        ] {
            let tab = subject.map_or("Title".to_owned(), |subject| format!("{subject} · Title"));
            assert_eq!(between(&page, "<title>", "</title>"), tab);
            assert_eq!(between(&page, "og:title\" content=\"", "\">"), subject.unwrap_or("Title"));
            let usual = "Title: a board where everybody can read and write messages.";
            for name in ["name=\"description\" content=\"", "og:description\" content=\""] {
                assert_eq!(between(&page, name, "\">"), description.as_deref().unwrap_or(usual));
            }
        }
    }

    #[test]
    fn search_engines_list_the_first_page_and_each_message() {
        let robots = "<meta name=\"robots\" content=\"noindex\">";
        assert!(joined(&pages().board(&[message(1, "a")], FURTHER)).contains(robots));
        assert!(!joined(&pages().board(&[message(1, "a")], NEWEST)).contains(robots));
        assert!(!pages().message(&message(1, "a"), Depth::ROOT).contains(robots));
    }

    #[test]
    fn a_message_alone_is_complete_and_leads_to_all_of_them() {
        let long = message(7, &"line\n".repeat(50));
        let page = pages().message(&long, Depth::of("/messages/7"));
        let list = between(&page, "<ol id=\"messages\">", "</ol>");
        assert!(list.starts_with("<li id=\"m7\"><p dir=\"auto\">line\nline"), "{list}");
        assert!(list.contains("<a href=\"../messages/7\">"), "{list}");
        assert!(page.contains("<nav aria-label=\"Pages\"><a href=\"../\">All messages</a></nav>"), "{page}");
        assert!(!page.contains("<form"), "{page}");
    }

    #[test]
    fn an_introduction_stands_below_the_title_and_describes_the_board() {
        let pages = Pages::new(PageSettings { intro: Some("For the class & https://a.example/."), ..SETTINGS });
        let page = joined(&pages.board(&[], NEWEST));
        let intro = "</h1><p class=\"intro\" dir=\"auto\">For the class &amp; <a href=\"https://a.example/\" \
            rel=\"nofollow ugc noopener\">https://a.example/</a>.</p></header>";
        assert!(page.contains(intro), "{page}");
        assert_eq!(between(&page, "name=\"description\" content=\"", "\">"), "For the class &amp; https://a.example/.");
        assert!(joined(&self::pages().board(&[], NEWEST)).contains("</h1></header>"));
    }

    #[test]
    fn the_footer_is_there_only_when_it_has_something_to_say() {
        let footer = |host, can_moderate| {
            let page = Pages::new(PageSettings { host, can_moderate, ..SETTINGS }).error("h", "m", Depth::ROOT);
            page.split_once("</main>\n").unwrap().1.trim_end_matches("</body>\n</html>").to_owned()
        };
        let served = format!("Served by box · twotier {}", env!("CARGO_PKG_VERSION"));
        let button = "<button type=\"button\" id=\"moderate\" hidden>Moderate</button>";
        assert_eq!(footer(None, false), "");
        assert_eq!(footer(Some("box"), false), format!("<footer>{served}</footer>\n"));
        assert_eq!(footer(None, true), format!("<footer>{button}</footer>\n"));
        assert_eq!(footer(Some("box"), true), format!("<footer>{served}{button}</footer>\n"));
    }

    #[test]
    fn a_feed_is_linked_where_there_is_one() {
        let page = |has_feed| Pages::new(PageSettings { has_feed, ..SETTINGS }).error("h", "m", Depth::of("/a/b"));
        let link = "<link rel=\"alternate\" type=\"application/atom+xml\" href=\"../feed.atom\">\n";
        assert!(page(true).contains(link) && !page(false).contains("feed.atom"));
    }

    #[test]
    fn all_links_are_relative_and_lead_to_the_board_from_any_depth() {
        let values = FormValues { text: "", key: "", problem: "" };
        let pages = Pages::new(PageSettings { has_feed: true, ..SETTINGS });
        let board = joined(&pages.board(&[message(1, "a")], FURTHER));
        for (page, root) in [
            (board, "./"),
            (pages.message(&message(7, "a"), Depth::of("/messages/7")), "../"),
            (pages.returned_form(&values), "./"),
            (pages.error("h", "m", Depth::of("/submit")), "./"),
            (pages.error("h", "m", Depth::of("/messages/7")), "../"),
            (pages.error("h", "m", Depth::of("/a/b//")), "../../../"),
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
    }

    #[test]
    fn a_page_loads_the_files_that_there_are() {
        let pages = pages();
        let page = joined(&pages.board(&[], NEWEST));
        for (before, after) in [("stylesheet\" href=\"./assets/", "\">"), ("src=\"./assets/", "\" defer")] {
            assert!(pages.asset(between(&page, before, after)).is_some());
        }
        assert!(pages.asset("style.css").is_none());
    }
}
