//! The domain: what a message is, and what may become one.
//!
//! Owns the limits and the validation of text. Knows nothing of HTTP, HTML or SQL, and does no I/O.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

/// The most characters that the setting for the longest message may allow.
pub const MAX_MESSAGE_CHARS_MAX: usize = 5000;

/// Characters that show nothing, in addition to white space: all that Unicode calls Default_Ignorable_Code_Point (DerivedCoreProperties,
/// 16.0), and blanks, fillers and format controls that it does not. Inside a text many of them have a meaning, so they
/// stay; a text of nothing else is empty.
const INVISIBLE: &[RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{2800}'..='\u{2800}', // Braille pattern blank
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fffb}',   // with the interlinear annotation controls
    '\u{13430}'..='\u{1343f}', // Egyptian hieroglyph format controls
    '\u{16fe4}'..='\u{16fe4}', // Khitan small script filler
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d159}'..='\u{1d159}', // musical symbol null notehead
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Position in the board; larger is newer. Gaps are normal.
    pub id: u64,
    /// The text as it was sent, or an empty string for a NULL that another program stored.
    pub text: String,
    /// When it was stored, or nothing for a row older than the column.
    pub created_at: Option<Timestamp>,
    /// When it was last edited, or nothing.
    pub edited_at: Option<Timestamp>,
}

/// Text that may be stored: it can only be made by [`NewMessage::parse`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage(String);

/// Why a text is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidMessage {
    /// Nothing in it is visible.
    Empty,
    /// More characters than the limit.
    TooLong {
        /// Characters of the text.
        length: usize,
        /// Characters that a message may have.
        limit: usize,
    },
    /// A control character other than newline and tab.
    ControlCharacter,
}

/// A moment in UTC by the database's clock, with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Year of the common era.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 to 999,999.
    pub microsecond: u32,
}

impl NewMessage {
    /// Makes a message of `raw`: `\r\n` becomes `\n`, surrounding white space is removed, and the rest must be
    /// 1 to `max_chars` characters, without control characters other than newline and tab, and with something visible.
    pub fn parse(raw: &str, max_chars: usize) -> Result<NewMessage, InvalidMessage> {
        let text = match raw.contains('\r') {
            true => Cow::Owned(raw.replace("\r\n", "\n")),
            false => Cow::Borrowed(raw),
        };
        let text = text.trim();
        if text.chars().all(is_invisible) {
            return Err(InvalidMessage::Empty);
        }
        let length = text.chars().count();
        if length > max_chars {
            return Err(InvalidMessage::TooLong { length, limit: max_chars });
        }
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(InvalidMessage::ControlCharacter);
        }
        Ok(NewMessage(text.to_owned()))
    }

    /// The text as it will be stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_invisible(c: char) -> bool {
    c.is_whitespace() || INVISIBLE.iter().any(|range| range.contains(&c))
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidMessage::Empty => f.write_str("The message is empty. Write something first."),
            InvalidMessage::TooLong { length, limit } => {
                write!(
                    f,
                    "The message has {length} characters; the limit is {limit}. Shorten it by {}.",
                    length - limit
                )
            }
            InvalidMessage::ControlCharacter => {
                f.write_str("The message contains a control character other than newline and tab. Remove it.")
            }
        }
    }
}

impl Timestamp {
    /// Appends it to the second: `2051-02-03T04:05:06Z`.
    pub fn push_seconds(&self, text: &mut String) {
        let complete = self.rfc3339();
        text.extend([std::str::from_utf8(&complete[..19]).unwrap_or_default(), "Z"]);
    }

    /// Appends it for people, to the minute: `2051-02-03 04:05 UTC`.
    pub fn push_minutes(&self, text: &mut String) {
        let mut complete = self.rfc3339();
        complete[10] = b' ';
        text.extend([std::str::from_utf8(&complete[..16]).unwrap_or_default(), " UTC"]);
    }

    /// In the form of RFC 3339, section 5.6, in UTC and with microseconds: `2051-02-03T04:05:06.000078Z`. Written digit by
    /// digit: with the standard library's formatting, the times would take a tenth of the time of a page.
    fn rfc3339(&self) -> [u8; 27] {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let fields = [
            (0..4, u32::from(self.year)),
            (5..7, u32::from(self.month)),
            (8..10, u32::from(self.day)),
            (11..13, u32::from(self.hour)),
            (14..16, u32::from(self.minute)),
            (17..19, u32::from(self.second)),
            (20..26, self.microsecond),
        ];
        for (place, mut number) in fields {
            for digit in text[place].iter_mut().rev() {
                *digit += (number % 10) as u8;
                number /= 10;
            }
        }
        text
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.rfc3339()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, want: Result<&str, InvalidMessage>) {
        let got = NewMessage::parse(raw, 10);
        assert_eq!(got.as_ref().map(NewMessage::as_str).map_err(|e| *e), want);
    }

    #[test]
    fn a_message_is_trimmed_and_its_line_ends_are_unified() {
        check("hello", Ok("hello"));
        check("  hello \r\n", Ok("hello"));
        check("a\r\nb\tc", Ok("a\nb\tc"));
        check("\u{a0}\u{2003}x\u{3000}", Ok("x"));
    }

    #[test]
    fn a_message_of_only_white_space_is_empty() {
        check("", Err(InvalidMessage::Empty));
        check(" \t\r\n\u{2003}", Err(InvalidMessage::Empty));
    }

    #[test]
    fn a_message_of_nothing_visible_is_empty_but_what_is_invisible_inside_a_text_stays() {
        let invisible = "\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\u{202e}\u{2060}\
            \u{2063}\u{2066}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fffb}\u{13430}\u{16fe4}\u{1bca0}\u{1d159}\u{1d173}\
            \u{e0001}\u{e007f}\u{e0100}\u{1680}\u{2003}\u{3000}";
        for c in invisible.chars() {
            check(&c.to_string().repeat(3), Err(InvalidMessage::Empty));
            check(&format!("\u{200b}{c} \n{c}"), Err(InvalidMessage::Empty));
            check(&format!("x{c}y"), Ok(&format!("x{c}y")));
        }
        for text in ["❤\u{fe0f}", "👩\u{200d}🚀", "می\u{200c}خواهم", "\u{202e}x", "⠁", "\u{fffd}", ".", "\u{301}", "ㅤx"]
        {
            check(text, Ok(text));
        }
    }

    #[test]
    fn the_limit_counts_characters_and_not_bytes() {
        check("😀😀😀😀😀😀😀😀😀😀", Ok("😀😀😀😀😀😀😀😀😀😀"));
        check("12345678901", Err(InvalidMessage::TooLong { length: 11, limit: 10 }));
        check("  1234567890  ", Ok("1234567890"));
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for c in ['\0', '\u{1}', '\r', '\u{1b}', '\u{7f}', '\u{85}', '\u{9f}'] {
            check(&format!("a{c}b"), Err(InvalidMessage::ControlCharacter));
        }
    }

    #[test]
    fn text_in_any_script_is_kept_as_it_is() {
        for text in ["مرحبا", "\u{202e}abc\u{202c}", "<b>&amp;", "'\";--", "a\u{301}"] {
            check(text, Ok(text));
        }
    }

    #[test]
    fn a_timestamp_is_rfc_3339_with_microseconds_or_shorter() {
        let t = Timestamp { year: 2051, month: 2, day: 3, hour: 4, minute: 5, second: 6, microsecond: 78 };
        assert_eq!(t.to_string(), "2051-02-03T04:05:06.000078Z");
        let mut short = String::new();
        t.push_seconds(&mut short);
        t.push_minutes(&mut short);
        assert_eq!(short, "2051-02-03T04:05:06Z2051-02-03 04:05 UTC");
    }
}
