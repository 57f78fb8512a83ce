//! Parameters in header values: `type; name=value; name="quoted \"value\""` (RFC 9110, section 5.6.6).

/// The value of the first parameter called `name`, without its quotes. `None` also for a quote without its end.
pub(super) fn parameter(value: &str, name: &str) -> Option<String> {
    let (_, value) = split_unquoted(value, ';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
    let value = value.trim();
    match value.strip_prefix('"') {
        None => Some(value.to_owned()),
        Some(quoted) => {
            let mut escaped = false;
            let unescaped = quoted.strip_suffix('"')?.chars().filter(|c| {
                escaped = *c == '\\' && !escaped;
                !escaped
            });
            Some(unescaped.collect())
        }
    }
}

/// Splits `text` at each `separator` that is not in a quoted string.
pub(super) fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c| {
        if escaped {
            escaped = false;
        } else if c == '"' {
            quoted = !quoted;
        } else if quoted {
            escaped = c == '\\';
        } else {
            return c == separator;
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_name_and_unquoted() {
        for (value, want) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data;charset=x ; Boundary = abc ;x=y", Some("abc")),
            ("multipart/form-data; boundary=\"a;b \\\"c\\\" \\\\\"", Some("a;b \"c\" \\")),
            ("form-data; x=\"boundary=no\"; boundary=yes", Some("yes")),
            ("multipart/form-data; boundary=", Some("")),
            ("multipart/form-data; boundary=\"abc", None),
            ("multipart/form-data; boundary", None),
            ("boundary", None),
            ("", None),
        ] {
            assert_eq!(parameter(value, "boundary").as_deref(), want, "{value}");
        }
    }
}
