//! The environment as a source of settings: variables, their `_FILE` forms, and the list of what is wrong with them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::{fmt, fs};

use super::{SETTINGS, Setting};

/// A copy of the environment.
#[derive(Clone)]
pub struct Environment {
    variables: HashMap<String, OsString>,
}

/// What is wrong with a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    name: String,
    /// Not there for a secret and for a variable that is not set.
    value: Option<String>,
    expected: String,
}

/// Reads settings and collects what is wrong.
pub(super) struct Source<'a> {
    environment: &'a Environment,
    ignored: Vec<&'static str>,
    notes: Vec<String>,
    wrong: Vec<SettingError>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Environment {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Environment { variables }
    }

    /// An environment of these variables.
    pub fn of(variables: HashMap<String, OsString>) -> Environment {
        Environment { variables }
    }

    /// Whether a file holds the value of a setting.
    pub(super) fn has_file(&self, name: &str) -> bool {
        self.variables.get(&format!("{name}_FILE")).is_some_and(|path| !path.is_empty())
    }

    /// The value of a setting, from its variable or from the file that its `_FILE` form names; an empty one counts as none.
    fn value(&self, name: &str) -> Result<Option<String>, String> {
        let get = |name: &str| match self.variables.get(name).map(|value| value.clone().into_string()) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err("text in UTF-8".to_owned()),
        };
        let file_name = format!("{name}_FILE");
        match (get(name)?, get(&file_name)?) {
            (Some(_), Some(_)) => Err(format!("nothing, because {file_name} is set too")),
            (value, None) => Ok(value),
            (None, Some(path)) => {
                let content =
                    fs::read_to_string(&path).map_err(|e| format!("a readable file in {file_name}={path} ({e})"))?;
                let value = content.strip_suffix('\n').unwrap_or(&content);
                let value = value.strip_suffix('\r').unwrap_or(value);
                Ok(Some(value.to_owned()).filter(|value| !value.is_empty()))
            }
        }
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(environment: &'a Environment) -> Source<'a> {
        let mut source = Source { environment, ignored: Vec::new(), notes: Vec::new(), wrong: Vec::new() };
        for setting in SETTINGS {
            if let Err(expected) = environment.value(setting.name) {
                source.wrong.push(SettingError { name: setting.name.to_owned(), value: None, expected });
            }
        }
        source
    }

    pub(super) fn is_set(&self, name: &'static str) -> bool {
        self.text(name).is_some()
    }

    /// The value, when it is set and `parse` takes it.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.wrong(name, expected);
        }
        value
    }

    /// The value that is set or, when none is set or it is wrong, the default.
    pub(super) fn required<T>(&mut self, name: &'static str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        let default = parse(find(name).default);
        match (self.optional(name, expected, parse), default) {
            (Some(value), _) | (None, Some(value)) => value,
            #[expect(
                clippy::unreachable,
                reason = "every default is parsed by the test that needs no variables but two"
            )]
            (None, None) => unreachable!("the default of {name} is not a value of it"),
        }
    }

    /// Notes that the value is wrong.
    pub(super) fn wrong(&mut self, name: &'static str, expected: &str) {
        let value = self.text(name).filter(|_| !find(name).secret);
        self.wrong.push(SettingError { name: name.to_owned(), value, expected: expected.to_owned() });
    }

    /// Notes that a value is missing.
    pub(super) fn missing(&mut self, name: &'static str, expected: &str) {
        self.wrong.push(SettingError { name: name.to_owned(), value: None, expected: expected.to_owned() });
    }

    /// Treats a variable as unset from here on.
    pub(super) fn ignore(&mut self, name: &'static str, note: &str) {
        self.ignored.push(name);
        self.notes.push(note.to_owned());
    }

    /// Notes, every setting as a person may see it, and what is wrong.
    pub(super) fn finish(self) -> (Vec<String>, Vec<(&'static str, String)>, Vec<SettingError>) {
        let show = |setting: &Setting| match (self.text(setting.name), setting.secret) {
            (Some(_), true) => "(set, not shown)".to_owned(),
            (Some(value), false) => value,
            (None, _) => setting.default.to_owned(),
        };
        let shown = SETTINGS.iter().map(|setting| (setting.name, show(setting))).collect();
        (self.notes, shown, self.wrong)
    }

    fn text(&self, name: &'static str) -> Option<String> {
        self.environment.value(name).ok().flatten().filter(|_| !self.ignored.contains(&name))
    }
}

fn find(name: &'static str) -> &'static Setting {
    const NONE: &Setting = &Setting { name: "", default: "", secret: true };
    SETTINGS.iter().find(|setting| setting.name == name).unwrap_or(NONE)
}

impl SettingError {
    /// Whether it concerns this variable.
    pub(super) fn is_about(&self, name: &str) -> bool {
        self.name == name
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}: expected {}", self.name, self.expected),
            None => write!(f, "{}: expected {}", self.name, self.expected),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|(n, v)| ((*n).to_owned(), v.into())).collect())
    }

    #[test]
    fn a_file_holds_a_value_without_its_last_newline() {
        let path = std::env::temp_dir().join(format!("twotier-source-{}", std::process::id()));
        let value = |content: &str| {
            fs::write(&path, content).unwrap();
            environment(&[("MYSQL_PASSWORD_FILE", path.to_str().unwrap())]).value("MYSQL_PASSWORD")
        };
        assert_eq!(value("secret\n"), Ok(Some("secret".to_owned())));
        assert_eq!(value("sec\nret\r\n"), Ok(Some("sec\nret".to_owned())));
        assert_eq!(value(" secret "), Ok(Some(" secret ".to_owned())));
        assert_eq!(value("\n"), Ok(None));
        fs::remove_file(&path).unwrap();
        assert!(value_of_missing(&path).contains("MYSQL_PASSWORD_FILE"));
    }

    fn value_of_missing(path: &std::path::Path) -> String {
        environment(&[("MYSQL_PASSWORD_FILE", path.to_str().unwrap())]).value("MYSQL_PASSWORD").unwrap_err()
    }

    #[test]
    fn both_forms_at_once_are_an_error() {
        let both = environment(&[("PORT", "1"), ("PORT_FILE", "/x")]);
        assert_eq!(both.value("PORT"), Err("nothing, because PORT_FILE is set too".to_owned()));
    }
}
