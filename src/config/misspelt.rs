//! Finds variables that look like misspelt settings, because an unknown variable would silently change nothing.

use strsim::osa_distance;

use super::settings::SETTINGS;

/// Variables of others: of the database's container image, and those that Kubernetes sets for a Service named mysql.
const FOREIGN_PREFIXES: [&str; 3] = ["MYSQL_ROOT_", "MYSQL_SERVICE_", "MYSQL_PORT_"];
/// The length from which a name may have a mistake: shorter ones are too close to other words.
const MIN_LENGTH: usize = 5;
/// The length from which a name that continues a setting of the database, or is its beginning, is taken for it.
const COMMON_PREFIX: usize = "MYSQL_".len() + 4;

/// A warning for each of `names` that is no setting but looks like one.
pub(super) fn warnings<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let settings: Vec<(&str, String)> = SETTINGS.iter().map(|setting| (setting.name, plain(setting.name))).collect();
    let mut warnings: Vec<String> = names
        .filter_map(|name| Some((name, meant(name, &settings)?)))
        .map(|(name, meant)| format!("{name} is not a setting and is ignored; did you mean {meant}?"))
        .collect();
    warnings.sort();
    warnings
}

/// The setting that `name` looks like; none for a setting itself. `settings` come with their plain names.
fn meant(name: &str, settings: &[(&'static str, String)]) -> Option<String> {
    let (stem, suffix) = name.strip_suffix("_FILE").map_or((name, ""), |stem| (stem, "_FILE"));
    let known = || settings.iter().map(|(setting, _)| *setting);
    if known().any(|setting| setting == stem) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    let written = plain(stem);
    let distance = |setting: &str| {
        // One mistake in a short name, up to three in a long one. Most names differ by more in their lengths alone, and
        // are ruled out by that: the comparison of two names takes long.
        let limit = if setting.len() < MIN_LENGTH { 0 } else { (setting.len() + 1) / 5 };
        let is_near = limit > 0 && setting.len().abs_diff(written.len()) <= limit;
        is_near.then(|| osa_distance(&written, setting)).filter(|distance| *distance <= limit)
    };
    let near = settings.iter().filter_map(|(setting, plain)| Some((distance(plain)?, *setting)));
    if let Some((_, closest)) = near.min_by_key(|(distance, _)| *distance) {
        return Some(format!("{closest}{suffix}"));
    }
    let is_prefix = |setting: &&str| {
        let common = stem.len().min(setting.len());
        setting.starts_with("MYSQL_")
            && common >= COMMON_PREFIX
            && stem.as_bytes()[..common] == setting.as_bytes()[..common]
    };
    known().find(is_prefix).map(|setting| format!("{setting}{suffix}"))
}

/// A name without what people write in different ways.
fn plain(name: &str) -> String {
    name.replace(['_', '-'], "").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_named_together_with_the_right_one() {
        for (name, setting) in [
            ("RATELIMIT", "RATE_LIMIT"),
            ("RATE_LIMITS", "RATE_LIMIT"),
            ("rate_limit", "RATE_LIMIT"),
            ("MYSQL_PASWORD", "MYSQL_PASSWORD"),
            ("MYSQL_PASSWROD", "MYSQL_PASSWORD"),
            ("MYSQL_PASSWORD_FIEL", "MYSQL_PASSWORD"),
            ("MYSQL_PASWORD_FILE", "MYSQL_PASSWORD_FILE"),
            ("MYSQL_PASS", "MYSQL_PASSWORD"),
            ("MYSQL_USERNAME", "MYSQL_USER"),
            ("MYSQL_HOSTNAME", "MYSQL_HOST"),
            ("MYSQLHOST", "MYSQL_HOST"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("TRUSTED_PROXY", "TRUSTED_PROXIES"),
            ("DB_TIMEOUTS", "DB_TIMEOUT"),
            ("PUBLIC_URLS", "PUBLIC_URL"),
            ("LOGLEVEL", "LOG_LEVEL"),
        ] {
            let warnings = warnings([name].into_iter());
            let expected = format!("{name} is not a setting and is ignored; did you mean {setting}?");
            assert_eq!(warnings, [expected], "{name}");
        }
    }

    #[test]
    fn settings_and_variables_of_others_are_not_named() {
        let settings = SETTINGS.iter().flat_map(|setting| [setting.name.to_owned(), format!("{}_FILE", setting.name)]);
        let others = [
            "MYSQL_ROOT_PASSWORD",
            "MYSQL_ROOT_PASSWORD_FILE",
            "MYSQL_ROOT_HOST",
            "MYSQL_SERVICE_HOST",
            "MYSQL_SERVICE_PORT",
            "MYSQL_PORT_3306_TCP",
            "MYSQL_PORT_3306_TCP_ADDR",
            "MYSQL_ALLOW_EMPTY_PASSWORD",
            "MYSQL_VERSION",
            "MYSQL_MAJOR",
            "PATH",
            "HOME",
            "HOST",
            "HOSTNAME",
            "USER",
            "PWD",
            "LANG",
            "TERM",
            "SHELL",
            "SHLVL",
            "PORTS",
            "KUBERNETES_PORT",
            "TWOTIER_COMMIT",
            "RUST_LOG",
            "SSL_CERT_FILE",
            "POSTS",
            "KIND",
            "TZ",
            "_",
            "",
        ];
        let names: Vec<String> = settings.chain(others.map(str::to_owned)).collect();
        assert_eq!(warnings(names.iter().map(String::as_str)), [] as [&str; 0]);
    }
}
