//! The command line and the exit status. Only this file ends the process.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use twotier::config::{Config, Environment, SettingError};
use twotier::{app, check, logging};

const USAGE: &str = "\
usage: twotier                        serve
       twotier check                  show the settings, and try the database step by step
       twotier healthcheck [--live]   request /readyz, or /livez, of the local server
       twotier --help | --version

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
docs/settings.md describes all of them.
";

/// Exit status of a failure at run time.
const EXIT_FAILURE: u8 = 1;
/// Exit status of a wrong argument or setting.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let environment = Environment::of_process();
    match arguments.as_slice() {
        [] => serve(&environment),
        ["check"] => run_check(&environment),
        ["healthcheck"] => run_healthcheck(&environment, "/readyz"),
        ["healthcheck", "--live"] => run_healthcheck(&environment, "/livez"),
        ["--help" | "-h"] => print(USAGE),
        ["--version" | "-V"] => print(concat!("twotier ", env!("CARGO_PKG_VERSION"), "\n")),
        [first, ..] => {
            print_error(&format!(
                "error: unknown arguments, beginning with '{}'; settings are environment variables",
                first.escape_debug()
            ));
            print_error(USAGE.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n").as_str());
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn serve(environment: &Environment) -> ExitCode {
    let config = match Config::read(environment) {
        Ok(config) => config,
        Err(errors) => return exit_usage(&errors),
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
        Err(errors) => return exit_usage(&errors),
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

fn exit_usage(errors: &[SettingError]) -> ExitCode {
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
