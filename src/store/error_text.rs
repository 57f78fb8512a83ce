//! What of an error of the `mysql` crate may be shown: its text, unless the text could quote a message.

/// Codes of the server whose texts hold names and numbers of the schema, and never a value of a statement.
const QUOTES_NO_VALUE: &[u16] = &[
    1005, 1017, 1021, 1030, 1031, 1036, 1040, 1041, 1042, 1043, 1044, 1045, 1047, 1049, 1050, 1051, 1053, 1054, 1060,
    1061, 1068, 1071, 1072, 1075, 1091, 1114, 1115, 1129, 1130, 1142, 1143, 1146, 1148, 1153, 1180, 1193, 1203, 1205,
    1206, 1213, 1217, 1226, 1227, 1251, 1290, 1297, 1317, 1347, 1356, 1364, 1370, 1396, 1451, 1467, 1524, 1637, 1665,
    1698, 1792, 1820, 1832, 1833, 1834, 1836, 1846, 1862, 1877, 1927, 1932, 1969, 3024, 3100, 3101, 3118, 3159, 3675,
    4031, 4025,
];

/// An error of the `mysql` crate in words. A text of the server that could quote a message is left out.
pub(super) fn words(error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(server) if QUOTES_NO_VALUE.contains(&server.code) => {
            format!("{} ({})", server.message, server.code)
        }
        mysql::Error::MySqlError(server) => {
            format!(
                "error {} (SQLSTATE {}); its text is left out, as it could quote a message",
                server.code, server.state
            )
        }
        mysql::Error::IoError(error) => error.to_string(),
        mysql::Error::CodecError(error) => error.to_string(),
        mysql::Error::DriverError(error) => error.to_string(),
        mysql::Error::TlsError(error) => error.to_string(),
        mysql::Error::UrlError(error) => error.to_string(),
        mysql::Error::FromValueError(_) | mysql::Error::FromRowError(_) => {
            "a value of the table has an unexpected type".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mysql::MySqlError;

    #[test]
    fn an_error_that_may_quote_a_message_is_reported_by_its_number() {
        let server = |code| {
            let message = "near 'my secret' at line 1".to_owned();
            words(&mysql::Error::MySqlError(MySqlError { state: "HY000".into(), message, code }))
        };
        for code in [1064, 1062, 1292, 1366, 1406, 1644, 3819, 65535] {
            let words = server(code);
            assert!(!words.contains("secret") && words.contains(&code.to_string()), "{words}");
        }
        assert!(server(1146).contains("secret"), "a text about the schema is kept");
    }
}
