//! `DATABASE_URL`: what it says of the database, part by part. Its errors never repeat a part that may be secret.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::store::Host;

/// The parts of a URL.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DatabaseUrl {
    pub(super) host: Host,
    pub(super) user: String,
    pub(super) password: Option<String>,
    pub(super) database: String,
    pub(super) encryption: EncryptionParameters,
    /// Parameters of other clients that mean nothing here.
    pub(super) ignored: Vec<String>,
}

/// What the parameters say of the encryption; each as it is written for the setting of the same meaning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct EncryptionParameters {
    pub(super) mode: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

/// Parameters that other clients act on and that change nothing here: text is always UTF-8, times are UTC, connections are
/// kept and made again, and time-outs are settings. Written as in [`plain`].
const IGNORED: &str = "\
    adapter allowlocalinfile allowmultiqueries allownativepasswords allowpublickeyretrieval autocommit autoreconnect \
    bignumberstrings cacheprepstmts cacheresultsetmetadata cacheserverconfiguration characterencoding charset \
    checkconnliveness clientfoundrows collation columnswithalias connectionattributes connectioncollation \
    connectionlimit connectiontimeout connectiontimezone connecttimeout connecttimeoutms datestrings decimalnumbers \
    elidesetautocommits enablekeepalive encoding engine failoverreadonly interpolateparams keepaliveinitialdelay loc \
    local localinfile maintaintimestats maxallowedpacket maxconnections maxidle maxreconnects multiplestatements \
    multistatements namedplaceholders parsetime pgbouncer pool poolmax poolmin poolrecycle poolsize pooltimeout \
    prefix preparedstatements prepstmtcachesize prepstmtcachesqllimit queuelimit readtimeout reconnect \
    rejectreadonly rewritebatchedstatements schema servertimezone serverversion sockettimeout statementcachecapacity \
    statementcachesize strict supportbignumbers tcpkeepalive timeout timetruncate timezone tinyint1isbit \
    useaffectedrows usecursorfetch usejdbccomplianttimezoneshift uselegacydatetimecode uselocalsessionstate \
    useserverprepstmts useunicode waitforconnections waittimeout writetimeout zerodatetimebehavior";

const ENCODE: &str = "the user name or the password contains / ? # or @ as it is; percent-encode it (%2F %3F %23 %40)";

/// Reads a URL. The error says which part is wrong.
pub(super) fn parse(text: &str) -> Result<DatabaseUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("must be a URL like mysql://user:password@host:3306/db".to_owned());
    };
    let is_ours = matches!(scheme, "mysql" | "mysql2" | "mariadb")
        || scheme.strip_prefix("mysql+").is_some_and(|driver| !driver.is_empty());
    if !is_ours {
        let name = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)).then_some(scheme);
        return Err(format!("the scheme {} must be mysql, mysql2, mariadb or mysql+DRIVER", name.unwrap_or_default()));
    }
    // What ends the part with the password, although it may have been meant to be in it.
    let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(authority_end);
    if (!authority.contains('@') && after.contains('@')) || after.contains('#') {
        return Err(ENCODE.to_owned());
    }
    // With a socket there is often no host.
    let host_missing = authority.is_empty() || authority.ends_with('@');
    let host = if host_missing { "localhost" } else { "" };
    let url = Url::parse(&format!("mysql://{authority}{host}{after}"))
        .map_err(|_| "the host or the port after the @ is malformed; a port is a number up to 65535".to_owned())?;
    let user = decoded("the user", url.username())?;
    if user.is_empty() {
        return Err("the user is missing: mysql://user:password@host:3306/db".to_owned());
    }
    let password = url.password().map(|password| decoded("the password", password)).transpose()?;
    let database = url.path().trim_start_matches('/');
    if database.is_empty() || database.contains('/') {
        return Err("the name of one database must follow the host: mysql://user:password@host:3306/db".to_owned());
    }
    let name = decoded("the host", url.host_str().unwrap_or_default())?;
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let mut parsed = DatabaseUrl {
        host: Host { name, port: url.port().unwrap_or(3306) },
        user,
        password: password.filter(|password| !password.is_empty()),
        database: decoded("the name of the database", database)?,
        encryption: EncryptionParameters::default(),
        ignored: Vec::new(),
    };
    for (name, value) in url.query_pairs() {
        parsed.parameter(&name, &value)?;
    }
    if host_missing && !parsed.host.name.starts_with('/') {
        return Err("the host is missing: mysql://user:password@host:3306/db".to_owned());
    }
    Ok(parsed)
}

impl DatabaseUrl {
    fn parameter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let plain = plain(name);
        let is_on = matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes" | "on");
        let is_off = matches!(value.to_ascii_lowercase().as_str(), "false" | "0" | "no" | "off");
        let unsupported = || {
            Err(format!(
                "the parameter {name} is not supported with this value; use ssl-mode, ssl-ca, ssl-cert, ssl-key"
            ))
        };
        let on_off = |on: &'static str| if is_on { Some(on) } else { is_off.then_some("disabled") };
        let encryption = &mut self.encryption;
        let (place, value): (&mut Option<String>, Cow<'_, str>) = match plain.as_str() {
            "sslmode" => (&mut encryption.mode, mode_of_other_clients(value).into()),
            "usessl" | "requiressl" | "ssl" => match (value.replace(' ', "").as_str(), on_off("required")) {
                // Of Node's clients.
                (r#"{"rejectUnauthorized":true}"#, _) => (&mut encryption.mode, "verify-identity".into()),
                (r#"{"rejectUnauthorized":false}"#, _) => (&mut encryption.mode, "required".into()),
                (_, Some(mode)) => (&mut encryption.mode, mode.into()),
                (_, None) => return unsupported(),
            },
            // Of Go's client.
            "tls" => match (value, on_off("verify-identity")) {
                ("skip-verify", _) => (&mut encryption.mode, "required".into()),
                ("preferred", _) => (&mut encryption.mode, "preferred".into()),
                (_, Some(mode)) => (&mut encryption.mode, mode.into()),
                (_, None) => return unsupported(),
            },
            // Of Prisma.
            "sslaccept" => match value {
                "strict" => (&mut encryption.mode, "verify-identity".into()),
                "accept_invalid_certs" => (&mut encryption.mode, "required".into()),
                _ => return unsupported(),
            },
            "sslca" | "sslrootcert" => (&mut encryption.ca, value.into()),
            "sslcert" => (&mut encryption.cert, value.into()),
            "sslkey" => (&mut encryption.key, value.into()),
            "socket" | "unixsocket" if value.starts_with('/') => {
                self.host.name = value.to_owned();
                return Ok(());
            }
            "socket" | "unixsocket" => return Err(format!("the parameter {name} must be a path that begins with /")),
            plain if IGNORED.split(' ').any(|name| name == plain) => {
                self.ignored.push(name.to_owned());
                return Ok(());
            }
            plain if ["ssl", "tls", "cert"].iter().any(|word| plain.contains(word)) => return unsupported(),
            _ => return Err(format!("the parameter {name} is unknown; remove it")),
        };
        if place.as_deref().is_some_and(|earlier| earlier != value) {
            return Err(format!("the parameter {name} contradicts an earlier one"));
        }
        *place = Some(value.into_owned());
        Ok(())
    }
}

/// A name of a parameter without what clients write in different ways.
fn plain(name: &str) -> String {
    name.replace(['-', '_'], "").to_ascii_lowercase()
}

/// PostgreSQL's words for what MySQL's are used for here.
fn mode_of_other_clients(value: &str) -> &str {
    match value {
        "disable" | "none" => "disabled",
        "prefer" | "allow" => "preferred",
        "require" => "required",
        "verify-full" | "verify_full" => "verify-identity",
        other => other,
    }
}

fn decoded(part: &str, text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(format!("{part} is not UTF-8 after percent-decoding")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(query: &str) -> Result<DatabaseUrl, String> {
        parse(&format!("mysql://u:p@h/d{query}"))
    }

    #[test]
    fn the_parts_of_a_url_are_decoded() {
        let url = parse("mysql://us%40er:p%2Fw%3A%23%25@db.example:3307/bo%20ard").unwrap();
        assert_eq!(url.host, Host { name: "db.example".into(), port: 3307 });
        assert_eq!((&*url.user, url.password.as_deref(), &*url.database), ("us@er", Some("p/w:#%"), "bo ard"));
        for (text, name, port) in [
            ("mysql2://u@[::1]:3308/d", "::1", 3308),
            ("mariadb://u@127.0.0.1/d", "127.0.0.1", 3306),
            ("mysql+pymysql://u:@h/d", "h", 3306),
            ("mysql://u@my_db/d", "my_db", 3306),
            ("mysql://u@%2Fcloudsql%2Fa%3Ab/d", "/cloudsql/a:b", 3306),
            ("mysql://u:p@/d?unix_socket=/cloudsql/a:b", "/cloudsql/a:b", 3306),
            ("mysql://u:p@localhost/d?socket=%2Frun%2Fmysqld.sock", "/run/mysqld.sock", 3306),
            ("mysql://u:p@ss@h/d", "h", 3306),
        ] {
            let url = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.host, Host { name: name.into(), port }, "{text}");
        }
        assert_eq!(parse("mysql://u:@h/d").unwrap().password, None);
    }

    #[test]
    fn parameters_of_the_encryption_are_acted_on_or_refused() {
        for (query, mode) in [
            ("?ssl-mode=REQUIRED", "REQUIRED"),
            ("?sslmode=require", "required"),
            ("?sslMode=VERIFY_CA&ssl_mode=VERIFY_CA", "VERIFY_CA"),
            ("?ssl-mode=verify-full", "verify-identity"),
            ("?useSSL=false&serverTimezone=UTC", "disabled"),
            ("?useSSL=true", "required"),
            ("?ssl=1", "required"),
            ("?ssl=%7B%22rejectUnauthorized%22:true%7D", "verify-identity"),
            ("?ssl={\"rejectUnauthorized\": false}", "required"),
            ("?tls=skip-verify", "required"),
            ("?tls=true", "verify-identity"),
            ("?sslaccept=strict", "verify-identity"),
        ] {
            assert_eq!(with(query).unwrap().encryption.mode.as_deref(), Some(mode), "{query}");
        }
        let url = with("?ssl-ca=/ca&sslcert=/cert&ssl_key=/key").unwrap();
        let parts = (url.encryption.ca.as_deref(), url.encryption.cert.as_deref(), url.encryption.key.as_deref());
        assert_eq!(parts, (Some("/ca"), Some("/cert"), Some("/key")));
        for query in [
            "?ssl={}",
            "?tls=custom",
            "?sslaccept=x",
            "?verifyServerCertificate=true",
            "?sslidentity=x",
            "?enabledTLSProtocols=TLSv1.2",
            "?ssl-mode=required&ssl-mode=disabled",
        ] {
            assert!(with(query).is_err(), "{query}");
        }
    }

    #[test]
    fn parameters_of_other_clients_are_ignored_by_name_and_unknown_ones_are_named() {
        let query = "?reconnect=true&charset=utf8mb4&parseTime=true&pool_timeout=5&connection_limit=1";
        let ignored = with(query).unwrap().ignored;
        assert_eq!(ignored, ["reconnect", "charset", "parseTime", "pool_timeout", "connection_limit"]);
        assert!(IGNORED.split(' ').is_sorted() && IGNORED.split(' ').all(|name| plain(name) == name));
        for query in [
            // Symfony; Laravel; Rails; Django; a pool of Java; Node.
            "?serverVersion=8.0.32&charset=utf8mb4",
            "?charset=utf8mb4&collation=utf8mb4_unicode_ci&prefix=&strict=true&engine=",
            "?encoding=utf8mb4&pool=5&timeout=5000&reconnect=true",
            "?charset=utf8mb4&local_infile=0&use_unicode=1",
            "?cachePrepStmts=true&prepStmtCacheSize=250&prepStmtCacheSqlLimit=2048&useServerPrepStmts=true\
             &useLocalSessionState=true&rewriteBatchedStatements=true&cacheResultSetMetadata=true\
             &cacheServerConfiguration=true&elideSetAutoCommits=true&maintainTimeStats=false&tinyInt1isBit=false",
            "?connectionLimit=10&waitForConnections=true&queueLimit=0&dateStrings=true&multipleStatements=false",
        ] {
            let url = with(query).unwrap_or_else(|error| panic!("{query}: {error}"));
            assert_eq!(url.ignored.len(), query.split('&').count(), "{query}");
        }
        let error = with("?nonsense=1").unwrap_err();
        assert!(error.contains("nonsense"), "{error}");
        assert!(with("?socket=relative").unwrap_err().contains("socket"));
    }

    #[test]
    fn an_error_names_the_part_and_never_the_password() {
        for (text, part) in [
            ("hunter2", "must be a URL"),
            ("postgres://u:hunter2@h/d", "scheme postgres"),
            ("mysql+://u:hunter2@h/d", "scheme"),
            ("u:hunter2 x://h/d", "scheme"),
            ("mysql://h/d", "user is missing"),
            ("mysql://:hunter2@h/d", "user is missing"),
            ("mysql://u:hunter2@h", "database"),
            ("mysql://u:hunter2@h/", "database"),
            ("mysql://u:hunter2@h/d/e", "database"),
            ("mysql://u:hunter2@h:99999/d", "port"),
            ("mysql://u:hunter2@/d", "host is missing"),
            ("mysql://u:hunt#er2@h/d", "percent-encode"),
            ("mysql://u:hunt/er2@h/d", "percent-encode"),
            ("mysql://u:hunt?er2@h/d", "percent-encode"),
            ("mysql://u:hunt@er2#x@h/d", "percent-encode"),
            ("mysql://u:hunter2%ff@h/d", "password is not UTF-8"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part) && !error.contains("hunt"), "{text}: {error}");
        }
    }
}
