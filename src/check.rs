//! `twotier check`, which says in words what is wrong with the settings or the database, and `twotier healthcheck`,
//! which asks the local server.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::store::schema::{Grants, SchemaState, Step};
use crate::store::{Client, Error, Servers, Timeouts};

/// How long the local server may take to connect, and for each part of its answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// What the service needs once the table is there.
const RIGHTS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Asks the server at `listening` for `path`; an error says why it is not healthy.
pub fn health(listening: SocketAddr, path: &str) -> Result<(), String> {
    let local = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let address = SocketAddr::new(local, listening.port());
    let ask = || {
        let mut socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        write!(socket, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        socket.take(16 * 1024).read_to_string(&mut answer)?;
        Ok::<_, io::Error>(answer)
    };
    let answer = ask().map_err(|e| format!("{address}: {e}"))?;
    match answer.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(_) | None => Err(answer.lines().last().unwrap_or("no answer").to_owned()),
    }
}

/// Prints the settings and tries the database, step by step. False when something is wrong.
pub fn run(config: &Config, out: &mut impl Write) -> io::Result<bool> {
    for (name, value) in &config.shown {
        writeln!(out, "{name}={value}")?;
    }
    for note in &config.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(out)?;
    let servers = Arc::new(Servers::new(config.hosts.clone(), config.account.clone()));
    match database(config, &servers, out)? {
        Ok(()) => {
            writeln!(out, "all is well")?;
            Ok(true)
        }
        Err(words) => {
            writeln!(out, "wrong: {words}")?;
            Ok(false)
        }
    }
}

fn database(config: &Config, servers: &Arc<Servers>, out: &mut impl Write) -> io::Result<Result<(), String>> {
    let mut say = |what: &str, words: &str| writeln!(out, "{what:<13} {words}");
    if let Err(error) = servers.resolve() {
        return Ok(Err(error.to_string()));
    }
    say("names", &servers.addresses().join(", "))?;
    if !servers.listens(config.db_timeout) {
        let words = "none of these addresses takes connections: is the database up? Look at MYSQL_HOST and MYSQL_PORT";
        return Ok(Err(words.to_owned()));
    }
    say("connection", "taken")?;
    say("encryption", config.account.encryption.describe())?;
    let timeouts = Timeouts { connect: config.db_timeout, statement: Some(config.db_timeout) };
    let mut client = Client::new(Arc::clone(servers), timeouts);
    let version = match client.version() {
        Ok(version) => version,
        Err(error) => return Ok(Err(error.to_string())),
    };
    say("login", &format!("as {}, to the database {}", config.account.user, config.account.database))?;
    say("server", &version.text)?;
    if !version.supported {
        return Ok(Err("the server is too old: it has to be MySQL 8.0.13 or MariaDB 10.5, or newer".to_owned()));
    }
    let (shape, grants) = match look(&mut client) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let needs_change = match shape {
        SchemaState::Current => say("table", "as it should be, utf8mb4").map(|()| false)?,
        SchemaState::Missing => say("table", "missing; it will be created at the start").map(|()| true)?,
        SchemaState::Needs(Step::Convert) => {
            say("table", "not utf8mb4 yet; it will be converted at the start").map(|()| true)?
        }
        SchemaState::Needs(_) => say("table", "of an older shape; it will be upgraded at the start").map(|()| true)?,
        SchemaState::Incompatible(words) => return Ok(Err(words)),
    };
    let mut wanted = RIGHTS.to_vec();
    if needs_change {
        wanted.extend(["CREATE", "ALTER"]);
    }
    let lacking = lacking(&grants, servers.database(), &wanted);
    let roles = grants.lines.iter().any(|line| !line.contains(" ON "));
    match (lacking.is_empty(), roles) {
        (true, _) => say("privileges", &wanted.join(", "))?,
        (false, true) => say("privileges", &format!("warning: {} not granted, unless by a role", lacking.join(", ")))?,
        (false, false) => {
            return Ok(Err(format!("the user lacks {}: look at MYSQL_USER and its grants", lacking.join(", "))));
        }
    }
    match grants.flush_log.as_str() {
        "1" => say("durability", "innodb_flush_log_at_trx_commit=1: a commit is on disk before it is answered")?,
        other => {
            say("durability", &format!("warning: innodb_flush_log_at_trx_commit={other}: a crash can lose commits"))?
        }
    }
    Ok(Ok(()))
}

fn look(client: &mut Client) -> Result<(SchemaState, Grants), Error> {
    Ok((client.shape()?, client.grants()?))
}

/// Those of `wanted` that no grant on `database` gives. Roles may give them all the same, which only the server knows.
fn lacking<'a>(grants: &Grants, database: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let covers = |target: &str| {
        let target = target.replace(['`', '\\'], "");
        let whole = target.split_once('.').map(|(name, _)| name).unwrap_or_default();
        whole == "*" || whole == database || whole.ends_with('%') && database.starts_with(whole.trim_end_matches('%'))
    };
    let granted: Vec<&str> = grants
        .lines
        .iter()
        .filter_map(|line| line.strip_prefix("GRANT ")?.split_once(" ON "))
        .filter(|(_, behind)| covers(behind.split(" TO ").next().unwrap_or_default()))
        .flat_map(|(rights, _)| rights.split(',').map(str::trim))
        .collect();
    let all = granted.contains(&"ALL PRIVILEGES");
    wanted.iter().copied().filter(|right| !all && !granted.contains(right)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_found_in_the_grants_that_cover_the_database() {
        let lacking = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            lacking(&Grants { lines, flush_log: String::new() }, "my_board", &RIGHTS).join(",")
        };
        assert_eq!(lacking(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"]), "");
        assert_eq!(lacking(&["GRANT ALL PRIVILEGES ON `my\\_board`.* TO `u`@`%`"]), "");
        assert_eq!(lacking(&["GRANT ALL PRIVILEGES ON `other`.* TO `u`@`%`"]), "SELECT,INSERT,UPDATE,DELETE");
        let some =
            ["GRANT USAGE ON *.* TO `u`@`%`", "GRANT SELECT, INSERT, UPDATE ON `my_board`.`messages` TO `u`@`%`"];
        assert_eq!(lacking(&some), "DELETE");
    }
}
