//! Database servers for tests: one that all share, each test with a schema of its own, and private ones to be killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::{env, fs, process};

use mysql::prelude::{FromRow, Queryable};
use mysql::{Conn, OptsBuilder};

use super::Signal;

/// A server.
pub struct Database {
    dir: PathBuf,
    private: bool,
    options: String,
}

/// A schema, dropped with its owner.
pub struct Schema {
    pub database: Arc<Database>,
    pub name: String,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name that no other test has.
pub fn unique() -> String {
    format!("t{}_{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Where the shared server is; the private ones have their folders below it, so that `scripts/test` finds them.
fn shared_dir() -> PathBuf {
    env::var_os("TWOTIER_TEST_DATABASE").expect("a database: run the tests with `make test`").into()
}

fn script(argument: &str, dir: &Path, options: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/database");
    let status =
        Command::new(script).arg(argument).arg(dir).env("DATABASE_OPTIONS", options).stdin(Stdio::null()).status();
    assert!(status.expect("the script runs").success(), "scripts/database {argument}");
}

impl Database {
    /// The server that `make test` has started.
    pub fn shared() -> Arc<Database> {
        static SHARED: OnceLock<Arc<Database>> = OnceLock::new();
        let database =
            SHARED.get_or_init(|| Arc::new(Database { dir: shared_dir(), private: false, options: String::new() }));
        Arc::clone(database)
    }

    /// A server of this test's own.
    pub fn private() -> Arc<Database> {
        Database::private_with("")
    }

    /// A server of this test's own with more options, separated by spaces.
    pub fn private_with(options: &str) -> Arc<Database> {
        let dir = shared_dir().join(unique());
        let database = Arc::new(Database { dir, private: true, options: options.to_owned() });
        database.start();
        database
    }

    pub fn start(&self) {
        script("start", &self.dir, &self.options);
    }

    pub fn stop(&self) {
        script("stop", &self.dir, "");
    }

    /// Sends a signal to the server.
    pub fn signal(&self, signal: Signal) {
        super::signal(self.read("pid").parse().expect("a process id"), signal);
    }

    pub fn port(&self) -> u16 {
        self.read("port").parse().expect("a port")
    }

    pub fn admin_password(&self) -> String {
        self.read("admin-password")
    }

    pub fn connect(&self) -> Conn {
        self.try_connect().expect("a session")
    }

    pub fn try_connect(&self) -> Result<Conn, mysql::Error> {
        let options = OptsBuilder::new()
            .ip_or_hostname(Some("127.0.0.1"))
            .tcp_port(self.port())
            .user(Some("admin"))
            .pass(Some(self.admin_password()))
            .prefer_socket(false);
        Conn::new(options)
    }

    pub fn schema(self: &Arc<Database>) -> Schema {
        let name = unique();
        self.connect().query_drop(format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).expect("a schema");
        Schema { database: Arc::clone(self), name }
    }

    /// How often the server has done what this status variable counts.
    pub fn count(&self, status: &str) -> u64 {
        let row: Option<(String, u64)> =
            self.connect().query_first(format!("SHOW GLOBAL STATUS LIKE '{status}'")).expect("a status");
        row.expect("the variable").1
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.dir.join(file)).expect("scripts/database leaves this file").trim().to_owned()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.private {
            // It may be stopped in its tracks, and then it does not hear another signal.
            if self.dir.join("pid").exists() {
                self.signal(Signal::KILL);
            }
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Schema {
    /// A session in this schema.
    pub fn connect(&self) -> Conn {
        let mut connection = self.database.connect();
        connection.query_drop(format!("USE {}", self.name)).expect("the schema");
        connection.query_drop("SET NAMES utf8mb4").expect("the character set");
        connection
    }

    pub fn run(&self, statement: &str) {
        self.connect().query_drop(statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    pub fn rows<T: FromRow>(&self, query: &str) -> Vec<T> {
        self.connect().query(query).unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// How many messages there are with this text.
    pub fn copies(&self, text: &str) -> u64 {
        let count: Option<u64> =
            self.connect().exec_first("SELECT COUNT(*) FROM messages WHERE message = ?", (text,)).expect("a count");
        count.expect("a row")
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        if !self.database.private
            && let Ok(mut connection) = self.database.try_connect()
        {
            let _ = connection.query_drop(format!("DROP DATABASE {}", self.name));
        }
    }
}
