//! The Atom feed (RFC 4287). Never decides which messages are in it.
//!
//! The id of an entry is its permalink, which stays the same as long as `PUBLIC_URL` does.

use super::TITLE_CHARS;
use super::template::{Template, print};
use super::text::{self, push_escaped};
use crate::message::{Message, Timestamp};

/// Renders the feed of one board.
pub struct Feed {
    title: String,
    board: String,
    feed: Template,
    entry: Template,
}

/// The required time of a message whose time is unknown, and of a board without messages. It must not change.
const UNKNOWN_TIME: &str = "1970-01-01T00:00:00Z";

impl Feed {
    /// The feed of a board called `title`, which people reach at the URL `board`; it ends with a slash.
    pub fn new(title: &str, board: &str) -> Feed {
        Feed {
            title: title.to_owned(),
            board: board.to_owned(),
            feed: Template::new(include_str!("../../templates/feed.xml")),
            entry: Template::new(include_str!("../../templates/entry.xml")),
        }
    }

    /// The feed of these messages.
    pub fn render(&self, messages: &[Message]) -> String {
        let mut xml = String::with_capacity(16 * 1024);
        self.feed.render(&mut xml, |out, name| match name {
            "board" => push_text(out, &self.board),
            "title" => push_text(out, &self.title),
            "updated" => push_time(out, messages.iter().filter_map(updated).max()),
            "entries" => messages.iter().for_each(|message| self.entry(out, message)),
            unknown => out.push_str(unknown),
        });
        xml
    }

    fn entry(&self, out: &mut String, message: &Message) {
        self.entry.render(out, |out, name| match name {
            "permalink" => {
                push_text(out, &self.board);
                print(out, format_args!("messages/{}", message.id));
            }
            "title" => push_title(out, message),
            "updated" => push_time(out, updated(message)),
            "published" => {
                if let Some(moment) = message.created_at {
                    print(out, format_args!("<published>{moment}</published>\n"));
                }
            }
            "text" => push_text(out, &message.text),
            unknown => out.push_str(unknown),
        });
    }
}

fn updated(message: &Message) -> Option<Timestamp> {
    message.edited_at.or(message.created_at)
}

fn push_time(out: &mut String, moment: Option<Timestamp>) {
    match moment {
        Some(moment) => print(out, format_args!("{moment}")),
        None => out.push_str(UNKNOWN_TIME),
    }
}

/// The title that the page of the message has too; Atom requires one of each message.
fn push_title(out: &mut String, message: &Message) {
    match text::beginning(&message.text, TITLE_CHARS).as_str() {
        "" => print(out, format_args!("Message {}", message.id)),
        title => push_text(out, title),
    }
}

/// Appends text as XML, for an element or a quoted attribute. A character that XML 1.0 can't express becomes U+FFFD: rows of
/// other programs hold such.
fn push_text(out: &mut String, text: &str) {
    match text.contains(is_forbidden) {
        true => push_escaped(out, &text.replace(is_forbidden, "\u{fffd}")),
        false => push_escaped(out, text),
    }
}

fn is_forbidden(c: char) -> bool {
    matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: u64, text: &str) -> Message {
        Message { id, text: text.to_owned(), created_at: None, edited_at: None }
    }

    fn render(messages: &[Message]) -> String {
        Feed::new("Title", "https://board.example/b/").render(messages)
    }

    fn title(text: &str) -> String {
        let mut title = String::new();
        push_title(&mut title, &message(7, text));
        title
    }

    #[test]
    fn the_templates_have_the_placeholders_that_the_code_fills() {
        let Feed { feed, entry, .. } = Feed::new("", "");
        for (template, want) in [
            (&feed, "board title updated title board board entries"),
            (&entry, "permalink title updated published permalink text"),
        ] {
            let names: Vec<&str> = template.parts.iter().map(|(_, name)| *name).collect();
            assert_eq!(names.join(" "), want);
        }
    }

    #[test]
    fn a_title_is_the_beginning_of_the_text_and_never_empty() {
        assert_eq!(title("one\n\ntwo"), "one two");
        assert_eq!(title(&"é".repeat(TITLE_CHARS + 1)), format!("{}…", "é".repeat(TITLE_CHARS)));
        assert_eq!(title("<&>\u{ffff}"), "&lt;&amp;&gt;\u{fffd}");
        for blank in ["", "\n \n", "\0"] {
            assert_eq!(title(blank), "Message 7");
        }
    }

    #[test]
    fn all_text_is_escaped_and_what_xml_forbids_is_replaced() {
        let hostile = "]]></content><script>&amp;\"'\0\u{b}\u{1f}\u{fffe}\u{ffff}{{text}}";
        let escaped =
            "]]&gt;&lt;/content&gt;&lt;script&gt;&amp;amp;&quot;&#39;\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}{{text}}";
        let xml = Feed::new(hostile, "https://board.example/?'&\"<").render(&[message(1, hostile)]);
        assert_eq!(xml.matches(escaped).count(), 3, "title, author and content: {xml}");
        assert!(!xml.contains("<script>") && !xml.contains('\0'), "{xml}");
        assert!(xml.contains("href=\"https://board.example/?&#39;&amp;&quot;&lt;\""), "{xml}");
        let kept = "a\tb\nc \u{85}\u{2028}\u{fffd}😀";
        assert!(render(&[message(1, kept)]).contains(&format!("<content type=\"text\">{kept}</content>")));
    }

    #[test]
    fn a_time_is_that_of_the_last_change_or_a_fixed_one() {
        let time = |year| Some(Timestamp { year, month: 1, day: 2, hour: 3, minute: 4, second: 5, microsecond: 6 });
        let edited = Message { created_at: time(2026), edited_at: time(2030), ..message(1, "a") };
        let created = Message { created_at: time(2027), ..message(2, "b") };
        let xml = render(&[message(3, "old"), created, edited]);
        let updated: Vec<&str> = xml.split("<updated>").skip(1).filter_map(|rest| rest.get(..4)).collect();
        assert_eq!(updated, ["2030", "1970", "2027", "2030"]);
        assert!(xml.contains("<published>2026-01-02T03:04:05.000006Z</published>"), "{xml}");
        assert_eq!(xml.matches("<published>").count(), 2, "an unknown time is left out");
        assert!(render(&[]).contains(&format!("<updated>{UNKNOWN_TIME}</updated>")));
    }
}
