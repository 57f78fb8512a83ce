//! Settings as an operator meets them: warnings, refusals, and what the scripts set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::Board;

#[test]
fn a_board_that_make_run_serves_listens_on_loopback_unless_told_otherwise() {
    let target = std::env::temp_dir().join(format!("twotier-run-{}", std::process::id()));
    fs::create_dir_all(target.join("release")).unwrap();
    let binary = target.join("release/twotier");
    fs::write(&binary, "#!/bin/sh\necho \"BIND=$BIND\"\n").unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
    let run = |variables: &[(&str, &str)]| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/run"));
        command.env_remove("BIND").env("CARGO_TARGET_DIR", &target).env("MYSQL_HOST", "db");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&[]), "BIND=127.0.0.1\n");
    assert_eq!(run(&[("BIND", "0.0.0.0")]), "BIND=0.0.0.0\n");
    assert_eq!(run(&[("BIND_FILE", "/run/bind")]), "BIND=\n");
    fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_variable_that_looks_like_a_misspelt_setting_is_a_warning_that_names_both() {
    let board = Board::with(&[("RATELIMIT", "5"), ("MYSQL_PASWORD", "hunter2"), ("MYSQL_ROOT_PASSWORD", "x")]);
    let log = board.service.log();
    for (name, setting) in [("RATELIMIT", "RATE_LIMIT"), ("MYSQL_PASWORD", "MYSQL_PASSWORD")] {
        let line = log.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name} in {log}"));
        assert!(line.contains("WARN") && line.contains(&format!("did you mean {setting}?")), "{line}");
    }
    assert!(!log.contains("hunter2") && !log.contains("MYSQL_ROOT"), "{log}");
}
