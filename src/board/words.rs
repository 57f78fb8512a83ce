//! What a page says about each error, in words for people: no keys, no methods, no statuses. Programs get
//! [`Problem::detail`].

use std::borrow::Cow;

use super::problem::Problem;

/// The words beside a form that could not be stored for a reason that passes.
const NOT_STORED: &str = "Not sent: the board is unavailable right now. Your text is still here. Press Send again in a \
    moment; it will be posted only once.";

impl Problem {
    /// The heading of a page about it, and what to do.
    pub fn words(&self) -> (&'static str, Cow<'static, str>) {
        let (heading, advice) = match self {
            Problem::Message(invalid) => return ("Not sent", Cow::Owned(invalid.to_string())),
            Problem::CrossSite(reason) => return ("Not sent", Cow::Owned(reason.clone())),
            Problem::RateLimited(seconds) => {
                let advice = format!("You have sent too many messages. Send the next one in {seconds} s.");
                return ("Too many messages", Cow::Owned(advice));
            }
            Problem::MissingField { .. } => ("Not sent", "The form arrived without a message. Go back and write one."),
            Problem::UnknownField(_) | Problem::InvalidJson(_) | Problem::UnsupportedMediaType(_) => {
                ("Not sent", "The board could not read what was sent. Go back and send the message again.")
            }
            Problem::InvalidKey(_) => ("Not sent", "The form was incomplete. Send the message again."),
            Problem::KeyReused => ("Not sent", "This form was used for another message. Send the message again."),
            Problem::BodyTooLarge => ("Not sent", "The message is far too long. Go back and shorten it."),
            Problem::InvalidParameter(_) => {
                ("Wrong address", "The address has a mistake. Start again from all messages.")
            }
            Problem::TargetTooLong => ("Wrong address", "The address is too long. Start again from all messages."),
            Problem::NotFound | Problem::NoFeed | Problem::MethodNotAllowed(_) => {
                ("Page not found", "There is nothing to read at this address.")
            }
            Problem::NoMessage(_) => ("Message not found", "There is no such message. It may have been deleted."),
            Problem::Unauthorized { .. } => ("Not allowed", "Only moderators may do this."),
            Problem::EditingDisabled => ("Not allowed", "Messages of this board cannot be changed."),
            Problem::RequestTimeout => ("Too slow", "The request did not arrive in time. Try again."),
            Problem::HeaderTooLarge => ("That did not work", "Delete the cookies of this site, and try again."),
            Problem::BadRequest(_)
            | Problem::ExpectationFailed
            | Problem::NotImplemented
            | Problem::VersionNotSupported => {
                ("That did not work", "The board could not read the request. Try again, or use another browser.")
            }
            Problem::Internal => ("Something went wrong", "The board has a problem. Try again later."),
            Problem::WritesPaused => {
                ("Posting is paused", "Posting is paused right now; reading goes on. Try again later.")
            }
            Problem::DatabaseUnavailable | Problem::Overloaded | Problem::TooManyStreams | Problem::ShuttingDown => {
                ("The board is unavailable", "The board will be back soon. Try again in a moment.")
            }
        };
        (heading, Cow::Borrowed(advice))
    }

    /// What stands beside a form that is shown once more.
    pub fn form_words(&self) -> Cow<'static, str> {
        let passes = matches!(self, Problem::DatabaseUnavailable | Problem::Overloaded | Problem::ShuttingDown);
        if passes { Cow::Borrowed(NOT_STORED) } else { self.words().1 }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::InvalidMessage;

    #[test]
    fn a_page_says_what_to_do_in_words_for_people() {
        let limit = Problem::rate_limited(Duration::from_millis(2500));
        let long = Problem::Message(InvalidMessage::TooLong { length: 208, limit: 100 });
        for (problem, heading, advice) in [
            (long, "Not sent", "The message has 208 characters; the limit is 100. Shorten it by 108."),
            (limit, "Too many messages", "You have sent too many messages. Send the next one in 3 s."),
            (Problem::CrossSite("Because.".to_owned()), "Not sent", "Because."),
            (Problem::NoMessage(7), "Message not found", "There is no such message. It may have been deleted."),
            (Problem::MethodNotAllowed("GET"), "Page not found", "There is nothing to read at this address."),
        ] {
            assert_eq!(problem.words(), (heading, advice.into()));
            assert_eq!(problem.form_words(), advice);
        }
    }

    #[test]
    fn a_form_that_was_not_stored_says_that_its_text_is_kept() {
        for problem in [Problem::DatabaseUnavailable, Problem::Overloaded, Problem::ShuttingDown] {
            assert!(problem.form_words().contains("Your text is still here."), "{problem:?}");
            assert!(!problem.words().1.contains("text"), "{problem:?}");
        }
    }
}
