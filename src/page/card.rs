//! A message as an item of a list: its text, its times, and the link to its own page.

use super::depth::Depth;
use super::template::{Template, print};
use super::text;
use crate::message::{Message, Timestamp};

/// Renders cards. The newest page has up to 50 of them, so nothing here allocates for a usual message.
pub(super) struct Card(pub(super) Template);

/// Whether a long text is shown in part until a reader opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    Long,
    Never,
}

const FOLD: &str = "<details><summary>Show all</summary></details>";

impl Card {
    /// The card of `templates/message.html`.
    pub(super) fn new() -> Card {
        Card(Template::new(include_str!("../../templates/message.html")))
    }

    /// Appends the card of `message` to a page of this `depth`.
    pub(super) fn push(&self, out: &mut String, message: &Message, depth: Depth, fold: Fold) {
        let shown = text::shorten_gaps(&message.text);
        self.0.render(out, |out, name| match name {
            "id" => print(out, format_args!("{}", message.id)),
            "root" => depth.push_root(out),
            "fold" if fold == Fold::Long && text::is_long(&shown) => out.push_str(FOLD),
            "fold" => {}
            "text" => text::push_linked(out, &shown),
            "posted" => match message.created_at {
                Some(moment) => push_time(out, moment),
                None => out.push_str("Permalink"),
            },
            "edited" => {
                if let Some(moment) = message.edited_at {
                    out.push_str(" <small>edited ");
                    push_time(out, moment);
                    out.push_str("</small>");
                }
            }
            unknown => out.push_str(unknown),
        });
    }
}

/// A time for programs to the second, and for people to the minute.
fn push_time(out: &mut String, moment: Timestamp) {
    out.push_str("<time datetime=\"");
    moment.push_seconds(out);
    out.push_str("\">");
    moment.push_minutes(out);
    out.push_str("</time>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(message: &Message, depth: Depth, fold: Fold) -> String {
        let mut out = String::new();
        Card::new().push(&mut out, message, depth, fold);
        out
    }

    fn message(text: &str) -> Message {
        Message { id: 7, text: text.to_owned(), created_at: None, edited_at: None }
    }

    #[test]
    fn a_card_has_the_text_the_times_and_a_link_to_its_own_page() {
        let moment =
            Timestamp { year: 2026, month: 11, day: 25, hour: 13, minute: 35, second: 8, microsecond: 999_999 };
        let time = "<time datetime=\"2026-11-25T13:35:08Z\">2026-11-25 13:35 UTC</time>";
        let posted = Message { created_at: Some(moment), ..message("a\nb") };
        let start = format!("<li id=\"m7\"><p dir=\"auto\">a\nb</p><a href=\"./messages/7\">{time}</a>");
        assert_eq!(card(&posted, Depth::ROOT, Fold::Long), format!("{start}</li>"));
        let edited = Message { edited_at: Some(moment), ..posted };
        assert_eq!(card(&edited, Depth::ROOT, Fold::Long), format!("{start} <small>edited {time}</small></li>"));
    }

    #[test]
    fn a_row_without_a_time_has_a_link_too() {
        let want = "<li id=\"m7\"><p dir=\"auto\">old</p><a href=\"../messages/7\">Permalink</a></li>";
        assert_eq!(card(&message("old"), Depth::of("/messages/7"), Fold::Never), want);
    }

    #[test]
    fn only_a_long_message_in_a_list_folds() {
        let long = message(&"line\n".repeat(16));
        let start = "<li id=\"m7\"><details><summary>Show all</summary></details><p";
        assert!(card(&long, Depth::ROOT, Fold::Long).starts_with(start));
        assert!(!card(&long, Depth::ROOT, Fold::Never).contains("<details>"));
        assert!(!card(&message("short"), Depth::ROOT, Fold::Long).contains("<details>"));
    }
}
