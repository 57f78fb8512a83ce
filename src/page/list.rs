//! A page of messages, and the links to the pages around it.

use super::card::{Card, Fold};
use super::depth::Depth;
use super::template::{Template, print};
use crate::message::Message;

/// Where the messages of a page stand in the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The part of the board.
    pub part: Part,
    /// Whether there are newer messages.
    pub has_newer: bool,
    /// Whether there are older messages.
    pub has_older: bool,
}

/// A part of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The newest messages.
    Newest,
    /// The messages before another one.
    Before,
    /// The messages after another one.
    After,
}

/// Renders lists.
pub(super) struct List(pub(super) Template);

impl List {
    /// The list of `templates/list.html`.
    pub(super) fn new() -> List {
        List(Template::new(include_str!("../../templates/list.html")))
    }

    /// Appends these messages, newest first. The links stand above them too, except on the first page.
    pub(super) fn push(&self, out: &mut String, card: &Card, messages: &[Message], position: Position) {
        let is_first = position.part == Part::Newest;
        let is_empty = messages.is_empty();
        self.0.render(out, |out, name| match name {
            "upper" if is_first || is_empty => {}
            "upper" => {
                out.push_str("<nav aria-label=\"Pages, top\">");
                push_links(out, messages, position);
                out.push_str("</nav>\n");
            }
            "messages" => messages.iter().for_each(|message| card.push(out, message, Depth::ROOT, Fold::Long)),
            "empty" if is_empty => out.push_str(match position.part {
                Part::Newest => "No messages yet. Write the first one.",
                Part::Before => "No older messages.",
                Part::After => "No newer messages.",
            }),
            "empty" => {}
            "lower" if is_first && is_empty => {}
            "lower" => {
                out.push_str("<nav aria-label=\"Pages\">");
                push_links(out, messages, position);
                if !is_empty && !position.has_older {
                    out.push_str("<span>No older messages</span>");
                }
                out.push_str("</nav>\n");
            }
            unknown => out.push_str(unknown),
        });
    }
}

fn push_links(out: &mut String, messages: &[Message], position: Position) {
    if let Some(newest) = messages.first().filter(|_| position.has_newer) {
        print(out, format_args!("<a href=\"./?after={}\" rel=\"prev\">Newer</a>", newest.id));
    }
    if position.part != Part::Newest {
        out.push_str("<a href=\"./\">Newest</a>");
    }
    if let Some(oldest) = messages.last().filter(|_| position.has_older) {
        print(out, format_args!("<a href=\"./?before={}\" rel=\"next\">Older</a>", oldest.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWER: &str = "<a href=\"./?after=9\" rel=\"prev\">Newer</a>";
    const NEWEST: &str = "<a href=\"./\">Newest</a>";
    const OLDER: &str = "<a href=\"./?before=8\" rel=\"next\">Older</a>";
    const END: &str = "<span>No older messages</span>";

    /// The upper links, the words of an empty list, and the lower links; nothing where there are none.
    fn around(ids: &[u64], part: Part, has_newer: bool, has_older: bool) -> [Option<String>; 3] {
        let message = |id: &u64| Message { id: *id, text: "x".to_owned(), created_at: None, edited_at: None };
        let messages: Vec<Message> = ids.iter().map(message).collect();
        let mut out = String::new();
        List::new().push(&mut out, &Card::new(), &messages, Position { part, has_newer, has_older });
        let between = |from: &str, to: &str| {
            let text = out.split_once(from)?.1.split(to).next()?;
            Some(text.to_owned()).filter(|text| !text.is_empty())
        };
        assert_eq!(out.matches("<li ").count(), ids.len());
        [
            between("<nav aria-label=\"Pages, top\">", "</nav>"),
            between("<p id=\"empty\">", "</p>"),
            between("<nav aria-label=\"Pages\">", "</nav>"),
        ]
    }

    #[test]
    fn the_first_page_leads_to_older_messages_or_says_that_there_are_none() {
        assert_eq!(around(&[9, 8], Part::Newest, false, true), [None, None, Some(OLDER.into())]);
        assert_eq!(around(&[9, 8], Part::Newest, false, false), [None, None, Some(END.into())]);
    }

    #[test]
    fn other_pages_have_their_links_above_the_list_too() {
        for part in [Part::Before, Part::After] {
            let all = Some([NEWER, NEWEST, OLDER].concat());
            assert_eq!(around(&[9, 8], part, true, true), [all.clone(), None, all]);
            let last = [Some([NEWER, NEWEST].concat()), None, Some([NEWER, NEWEST, END].concat())];
            assert_eq!(around(&[9, 8], part, true, false), last);
            let first = Some([NEWEST, OLDER].concat());
            assert_eq!(around(&[9, 8], part, false, true), [first.clone(), None, first]);
        }
    }

    #[test]
    fn an_empty_board_invites_and_an_empty_page_leads_back() {
        let invitation = Some("No messages yet. Write the first one.".into());
        assert_eq!(around(&[], Part::Newest, false, false), [None, invitation, None]);
        for (part, words) in [(Part::Before, "No older messages."), (Part::After, "No newer messages.")] {
            assert_eq!(around(&[], part, false, false), [None, Some(words.into()), Some(NEWEST.into())]);
        }
    }
}
