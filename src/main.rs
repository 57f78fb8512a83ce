//! The command line and the exit status. Only this file ends the process.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use twotier::config::{self, Config, Environment, SettingError};
use twotier::{app, check, logging};

const USAGE: &str = "\
usage: twotier                        serve
       twotier check                  show the settings, and try the database step by step
       twotier healthcheck [--live]   request /readyz, or /livez, of the local server
       twotier help | version

Settings are environment variables; NAME_FILE names a file that holds the value of NAME.
  DATABASE_URL                mysql://user:password@host:3306/db, or these parts of it:
  MYSQL_HOST, MYSQL_PORT      the database's servers (localhost, 3306)
  MYSQL_USER, MYSQL_PASSWORD  the account
  MYSQL_DB                    the database
  BIND, PORT                  where to listen (0.0.0.0, 5000)
  PUBLIC_URL                  where people reach the board
  TRUSTED_PROXIES             reverse proxies whose headers count
  ADMIN_TOKEN                 turns on editing and deleting
  RATE_LIMIT                  submits a minute of one client (off)
  LOG_LEVEL, LOG_FORMAT       error, warn, info, debug or trace (info); text or json (text)
  ACCESS_LOG                  a line for each request on stdout: off, combined or json (off)
docs/settings.md describes all of them.
";

/// All arguments.
const WORDS: &[&str] = &["check", "healthcheck", "--live", "help", "version"];
/// Two words that are closer than this are the same, misspelt.
const SIMILAR: f64 = 0.8;
/// Exit status of a failure at run time.
const EXIT_FAILURE: u8 = 1;
/// Exit status of a wrong argument or setting.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let environment = Environment::of_process();
    match arguments.as_slice() {
        ["help", ..] | [.., "--help" | "-h"] => print(USAGE),
        [] => serve(&environment),
        ["check"] => run_check(&environment),
        ["healthcheck"] => run_healthcheck(&environment, "/readyz"),
        ["healthcheck", "--live"] => run_healthcheck(&environment, "/livez"),
        ["version" | "--version" | "-V"] => print(concat!("twotier ", env!("CARGO_PKG_VERSION"), "\n")),
        ["check" | "version", wrong, ..]
        | ["healthcheck", "--live", wrong, ..]
        | ["healthcheck", wrong, ..]
        | [wrong, ..] => exit_unknown(wrong),
    }
}

/// Names the wrong argument, and the one that was probably meant.
fn exit_unknown(wrong: &str) -> ExitCode {
    let near = WORDS.iter().max_by(|a, b| similarity(a, wrong).total_cmp(&similarity(b, wrong)));
    let hint = match near.filter(|word| similarity(word, wrong) >= SIMILAR) {
        Some(word) => format!("did you mean '{word}'?"),
        None => "settings are environment variables".to_owned(),
    };
    // What follows may be a secret.
    let name = wrong.split(['=', ':']).next().unwrap_or_default();
    print_error(&format!("error: unknown argument '{}'; {hint}", name.escape_debug()));
    print_error(USAGE.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n").as_str());
    ExitCode::from(EXIT_USAGE)
}

fn similarity(word: &str, wrong: &str) -> f64 {
    strsim::jaro_winkler(word.trim_start_matches('-'), wrong.trim_start_matches('-'))
}

fn serve(environment: &Environment) -> ExitCode {
    let config = match Config::read(environment) {
        Ok(config) => config,
        Err(errors) => return exit_usage(environment, &errors),
    };
    if let Err(error) = logging::start(config.log_level, config.log_format) {
        print_error(&format!("error: the log can't be started: {error}"));
        return ExitCode::from(EXIT_FAILURE);
    }
    let outcome = app::run(config);
    if let Err(reason) = &outcome {
        log::error!("{reason}");
    }
    log::logger().flush();
    outcome.map_or(ExitCode::from(EXIT_FAILURE), |()| ExitCode::SUCCESS)
}

fn run_check(environment: &Environment) -> ExitCode {
    let config = match Config::read(environment) {
        Ok(config) => config,
        Err(errors) => return exit_usage(environment, &errors),
    };
    match check::run(&config, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

/// Exits with 0 or 1 and nothing else, as container engines require.
fn run_healthcheck(environment: &Environment, path: &str) -> ExitCode {
    let health = Config::listening(environment)
        .map_err(|errors| join_errors(&errors))
        .and_then(|listening: SocketAddr| check::health(listening, path));
    match health {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            print_error(&reason);
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn exit_usage(environment: &Environment, errors: &[SettingError]) -> ExitCode {
    // A setting may be missing because its variable is misspelt.
    config::notes(environment).iter().for_each(|note| print_error(&format!("warning: {note}")));
    print_error(&join_errors(errors));
    ExitCode::from(EXIT_USAGE)
}

fn join_errors(errors: &[SettingError]) -> String {
    errors.iter().map(|error| format!("error: {error}")).collect::<Vec<_>>().join("\n")
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_FAILURE),
    }
}

fn print_error(text: &str) {
    // Nothing can be done about a stderr that can't be written.
    let _ = writeln!(io::stderr(), "{text}");
}
