//! The command line: what to do, and how it ended. The only place that ends the process.

use std::env;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use twotier::config::{Config, Environment, SettingError};
use twotier::{app, check, logging};

const USAGE: &str = "\
usage: twotier                        serve; settings come from the environment
       twotier check                  show the settings, and try the database step by step
       twotier healthcheck [--live]   ask the local server's /readyz, or its /livez
       twotier --help | --version
";

/// Status for a failure at run time.
const FAILED: u8 = 1;
/// Status for a wrong argument or setting.
const MISUSED: u8 = 2;

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
        _ => {
            complain(USAGE.trim_end());
            ExitCode::from(MISUSED)
        }
    }
}

fn serve(environment: &Environment) -> ExitCode {
    let config = match Config::read(environment) {
        Ok(config) => config,
        Err(wrong) => return misuse(&wrong),
    };
    if let Err(error) = logging::start(config.log_level, config.log_format) {
        complain(&format!("error: no log: {error}"));
        return ExitCode::from(FAILED);
    }
    let outcome = app::run(config);
    if let Err(reason) = &outcome {
        log::error!("{reason}");
    }
    log::logger().flush();
    outcome.map_or(ExitCode::from(FAILED), |()| ExitCode::SUCCESS)
}

fn run_check(environment: &Environment) -> ExitCode {
    let config = match Config::read(environment) {
        Ok(config) => config,
        Err(wrong) => return misuse(&wrong),
    };
    match check::run(&config, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::from(FAILED),
    }
}

/// Exits 0 or 1 and nothing else, as container engines want it.
fn run_healthcheck(environment: &Environment, path: &str) -> ExitCode {
    let health = Config::listening(environment)
        .map_err(|wrong| sentences(&wrong))
        .and_then(|listening: SocketAddr| check::health(listening, path));
    match health {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            complain(&reason);
            ExitCode::from(FAILED)
        }
    }
}

fn misuse(wrong: &[SettingError]) -> ExitCode {
    complain(&sentences(wrong));
    ExitCode::from(MISUSED)
}

fn sentences(wrong: &[SettingError]) -> String {
    wrong.iter().map(|wrong| format!("error: {wrong}")).collect::<Vec<_>>().join("\n")
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn complain(text: &str) {
    // Where stderr can't be written there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}
