//! Settings as an operator meets them: warnings, refusals, and what the scripts set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

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
