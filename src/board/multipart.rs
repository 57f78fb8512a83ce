//! `multipart/form-data` (RFC 7578) as a list of text fields. Strict: what could be read in two ways is an error. No I/O.

use std::borrow::Cow;

use super::parameters::parameter;
use super::problem::{Problem, excerpt};

const MALFORMED: Problem = Problem::BadRequest(Cow::Borrowed("The multipart body is malformed or incomplete."));
/// The longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// The text fields of `body`, in their order. A part that is a file is an error, unless it is the empty one that a browser
/// sends for a file that was not chosen.
pub(super) fn fields(boundary: &str, body: &[u8]) -> Result<Vec<(String, String)>, Problem> {
    if boundary.is_empty() || boundary.len() > MAX_BOUNDARY {
        return Err(Problem::BadRequest(Cow::Borrowed("multipart/form-data needs a boundary of 1 to 70 characters.")));
    }
    let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
    let mut rest = match body.strip_prefix(&delimiter[2..]) {
        Some(rest) => rest,
        None => split(body, &delimiter).ok_or(MALFORMED)?.1,
    };
    let mut fields = Vec::new();
    while !rest.starts_with(b"--") {
        let (part, next) = split(rest, &delimiter).ok_or(MALFORMED)?;
        fields.extend(field(part)?);
        rest = next;
    }
    Ok(fields)
}

/// The field in `part`, which begins with the end of the delimiter's line.
fn field(part: &[u8]) -> Result<Option<(String, String)>, Problem> {
    let padding = part.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    let part = part[padding..].strip_prefix(b"\r\n").ok_or(MALFORMED)?;
    let (headers, content) = split(part, b"\r\n\r\n").ok_or(MALFORMED)?;
    let headers = std::str::from_utf8(headers).map_err(|_| MALFORMED)?;
    let mut disposition = None;
    for line in headers.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(MALFORMED)?;
        if name.eq_ignore_ascii_case("content-disposition") && disposition.replace(value).is_some() {
            return Err(MALFORMED);
        }
        if name.eq_ignore_ascii_case("content-transfer-encoding") && !is_identity(value) {
            let detail = "The only supported Content-Transfer-Encoding of a part is 8bit.";
            return Err(Problem::BadRequest(Cow::Borrowed(detail)));
        }
    }
    let disposition = disposition.ok_or(MALFORMED)?;
    if !disposition.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("form-data")) {
        return Err(MALFORMED);
    }
    let name = parameter(disposition, "name").ok_or(MALFORMED)?;
    if let Some(file) = parameter(disposition, "filename").or_else(|| parameter(disposition, "filename*")) {
        if file.is_empty() && content.is_empty() {
            return Ok(None);
        }
        let detail = format!("The field {} is a file. Files are not accepted; send the text itself.", excerpt(&name));
        return Err(Problem::BadRequest(Cow::Owned(detail)));
    }
    match String::from_utf8(content.to_vec()) {
        Ok(text) => Ok(Some((name, text))),
        Err(_) => Err(Problem::BadRequest(Cow::Borrowed("The form is not UTF-8."))),
    }
}

fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|identity| encoding.trim().eq_ignore_ascii_case(identity))
}

/// What stands before the first `separator`, and after it.
fn split<'a>(bytes: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(separator.len()).position(|window| window == separator)?;
    Some((&bytes[..at], &bytes[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(headers: &str, content: &str) -> String {
        format!("--b\r\n{headers}\r\n\r\n{content}\r\n")
    }

    fn read(body: &str) -> Result<String, Problem> {
        let fields = fields("b", body.as_bytes())?;
        Ok(fields.iter().map(|(name, text)| format!("{name}={text};")).collect())
    }

    #[test]
    fn text_fields_are_read_byte_for_byte_in_their_order() {
        let message = |text: &str| part("Content-Disposition: form-data; name=\"message\"", text);
        for (body, want) in [
            ("--b--".to_owned(), ""),
            (message("a & b=c+d %41") + "--b--\r\n", "message=a & b=c+d %41;"),
            (message("") + &message("é😀\r\n--c\r\n\r\nx") + "--b--", "message=;message=é😀\r\n--c\r\n\r\nx;"),
            (String::from("preamble\r\n") + &message("a") + "--b--\r\nepilogue\r\n--b", "message=a;"),
            (message("a").replace("--b\r\n", "--b \t\r\n") + "--b--", "message=a;"),
            (
                part("content-type: text/plain\r\nCONTENT-DISPOSITION:form-data;name=message", "a") + "--b--",
                "message=a;",
            ),
            (part("Content-Disposition: form-data; name=\"a\\\"b; c\"", "x") + "--b--", "a\"b; c=x;"),
            (
                part(
                    "Content-Disposition: form-data; name=\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream",
                    "",
                ) + &message("a")
                    + "--b--",
                "message=a;",
            ),
        ] {
            assert_eq!(read(&body).as_deref(), Ok(want), "{body}");
        }
    }

    #[test]
    fn files_and_what_is_malformed_are_refused() {
        let message = part("Content-Disposition: form-data; name=\"message\"", "a");
        for body in [
            "".to_owned(),
            "message=a".to_owned(),
            "--b".to_owned(),
            message.clone(),
            message.clone() + "--b\r\n",
            message.clone() + "--b-",
            message.replace("--b\r\n", "--bb\r\n") + "--b--",
            message.replace("\r\n", "\n") + "--b--",
            "--b\r\n\r\na\r\n--b--".to_owned(),
            part("Content-Disposition: form-data", "a") + "--b--",
            part("Content-Disposition: attachment; name=\"message\"", "a") + "--b--",
            part("Content-Disposition: form-data; name=\"message", "a") + "--b--",
            part("Content-Type: text/plain", "a") + "--b--",
            part("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b", "a") + "--b--",
            part("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64", "YQ==") + "--b--",
            part("Content-Disposition: form-data; name=message; filename=x.txt", "a") + "--b--",
            part("Content-Disposition: form-data; name=message; filename*=UTF-8''x", "a") + "--b--",
            part("Content-Disposition: form-data; name=message; filename=\"\"", "a") + "--b--",
            part("no header", "a") + "--b--",
        ] {
            assert!(matches!(read(&body), Err(Problem::BadRequest(_))), "{body}");
        }
        let latin1 = [part("Content-Disposition: form-data; name=a", "x").as_bytes(), b"\xe9\r\n--b--"].concat();
        assert!(fields("b", &latin1.iter().map(|b| if *b == b'x' { 0xe9 } else { *b }).collect::<Vec<_>>()).is_err());
        for boundary in ["", &"b".repeat(71)] {
            assert!(fields(boundary, b"--b--").is_err());
        }
    }
}
