//! The built program as a process.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::{fs, thread};

use super::client::{Answer, Connection, form_value, request};
use super::database::Schema;
use super::{Signal, eventually};

/// A running service, killed with its owner.
pub struct Service {
    child: Mutex<Child>,
    log: Arc<Mutex<String>>,
    access_log: Arc<Mutex<String>>,
    pub address: SocketAddr,
}

/// Where a test's service listens, unless its settings differ.
const LISTEN: &[(&str, &str)] = &[("BIND", "127.0.0.1"), ("PORT", "0")];

/// The program, with an environment of nothing but these variables.
pub fn program(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twotier"));
    command.env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command
}

/// The settings that reach a schema as the admin.
pub fn reach(schema: &Schema) -> Vec<(String, String)> {
    let database = &schema.database;
    [
        ("MYSQL_HOST", "127.0.0.1".to_owned()),
        ("MYSQL_PORT", database.port().to_string()),
        ("MYSQL_USER", "admin".to_owned()),
        ("MYSQL_PASSWORD", database.admin_password()),
        ("MYSQL_DB", schema.name.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

impl Service {
    /// Starts the service for `schema`; `settings` come on top of what reaches it.
    pub fn start(schema: &Schema, settings: &[(&str, &str)]) -> Service {
        let mut variables = reach(schema);
        // DATABASE_URL excludes the parts.
        if settings.iter().any(|(name, _)| *name == "DATABASE_URL") {
            variables.clear();
        }
        variables.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Service::run(&variables)
    }

    /// Starts the service with these variables, and waits until it listens.
    pub fn run(variables: &[(&str, &str)]) -> Service {
        let mut command = program(LISTEN);
        command.envs(variables.iter().copied());
        Service::spawn(command)
    }

    /// Starts the service in a process that may have so many descriptors.
    pub fn run_with_descriptor_limit(limit: u64, schema: &Schema, settings: &[(&str, &str)]) -> Service {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={limit}:{limit}")).arg(env!("CARGO_BIN_EXE_twotier")).stdin(Stdio::null());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).envs(LISTEN.iter().copied());
        command.envs(reach(schema)).envs(settings.iter().copied());
        Service::spawn(command)
    }

    /// Starts the service where the file of host names is this one; the rest of the machine keeps its own.
    pub fn run_with_hosts(hosts: &str, variables: &[(String, String)]) -> Service {
        let path = std::env::temp_dir().join(format!("twotier-hosts-{}", super::database::unique()));
        fs::write(&path, hosts).expect("a file");
        let mut command = Command::new("unshare");
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$1\"";
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(&path).arg(env!("CARGO_BIN_EXE_twotier")).stdin(Stdio::null());
        let path_variable = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path_variable).envs(LISTEN.iter().copied());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let service = Service::spawn(command);
        fs::remove_file(path).expect("the file");
        service
    }

    fn spawn(mut command: Command) -> Service {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let access_log = collect_lines(child.stdout.take().expect("stdout"));
        let log = collect_lines(child.stderr.take().expect("stderr"));
        let mut service =
            Service { child: Mutex::new(child), log, access_log, address: (Ipv4Addr::LOCALHOST, 0).into() };
        let mut address = None;
        eventually("the service listens", || {
            // In a log of JSON a quote follows it.
            address = service.logged("listens on ").and_then(|rest| rest.split('"').next()?.trim().parse().ok());
            address.is_some() || service.exit_status().is_some()
        });
        service.address = address.unwrap_or_else(|| panic!("the service ended:\n{}", service.log()));
        service
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        eventually("the service is ready", || {
            assert!(self.exit_status().is_none(), "the service ended:\n{}", self.log());
            self.get("/readyz").status == 200
        });
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The lines of the access log.
    pub fn access_log(&self) -> Vec<String> {
        self.access_log.lock().unwrap().lines().map(str::to_owned).collect()
    }

    /// What follows `text` on the first line of the log that has it.
    pub fn logged(&self, text: &str) -> Option<String> {
        self.log().lines().find_map(|line| Some(line.split_once(text)?.1.to_owned()))
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut connection = self.connect();
        connection.send(request(method, path, headers, body));
        connection.try_answer(method == "HEAD").unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    /// Sends the form as curl does.
    pub fn submit(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let form = ("Content-Type", "application/x-www-form-urlencoded");
        let body = format!("new_message={}", form_value(text));
        self.ask("POST", "/submit", &[&[form], headers].concat(), body.as_bytes())
    }

    /// Sends JSON to `path`.
    pub fn json(&self, method: &str, path: &str, headers: &[(&str, &str)], message: &str) -> Answer {
        let body = serde_json::json!({ "message": message }).to_string();
        self.ask(method, path, &[&[("Content-Type", "application/json")], headers].concat(), body.as_bytes())
    }

    pub fn signal(&self, signal: Signal) {
        super::signal(self.pid(), signal);
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().expect("a child")
    }

    /// Waits for the end of the process and gives its exit status.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        eventually("the service ends", || self.exit_status().is_some());
        self.exit_status().and_then(|status| status.code()).unwrap_or(-1)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }
}

/// The lines of `output` so far, as a thread reads them.
pub fn collect_lines(output: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let written = Arc::clone(&collected);
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let mut text = written.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    collected
}

impl Drop for Service {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        if thread::panicking() {
            eprintln!("log of the service at {}:\n{}", self.address, self.log.lock().unwrap());
        }
    }
}
