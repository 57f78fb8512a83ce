//! The environment as a source of settings: variables, their `_FILE` forms, and the list of what is wrong with them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::{fmt, fs};

use super::misspelt;
use super::settings::{SETTINGS, Setting};

/// A copy of the environment.
#[derive(Clone)]
pub struct Environment {
    variables: HashMap<String, OsString>,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    name: &'static str,
    /// The variable that the user has set, and what it holds; never a secret's value.
    shown: String,
    problem: String,
}

/// Reads settings and collects their errors.
pub(super) struct Source<'a> {
    environment: &'a Environment,
    ignored: Vec<&'static str>,
    notes: Vec<String>,
    errors: Vec<SettingError>,
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

    /// The file that holds the value of a setting whose own variable is not set.
    pub(super) fn file(&self, name: &str) -> Option<&str> {
        if self.variables.get(name).is_some_and(|value| !value.is_empty()) {
            return None;
        }
        self.variables.get(&format!("{name}_FILE"))?.to_str().filter(|path| !path.is_empty())
    }

    /// The value of a setting, from its variable or from the file that its `_FILE` form names; an empty one counts as none.
    fn value(&self, name: &str) -> Result<Option<String>, String> {
        let get = |name: &str| match self.variables.get(name).map(|value| value.clone().into_string()) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err("must be text in UTF-8".to_owned()),
        };
        let file_name = format!("{name}_FILE");
        match (get(name)?, get(&file_name)?) {
            (Some(_), Some(_)) => Err(format!("cannot be combined with {file_name}; set one of them")),
            (value, None) => Ok(value),
            (None, Some(path)) => {
                let content = fs::read_to_string(&path).map_err(|error| {
                    let reason = error.to_string();
                    format!("cannot be read: {}", reason.split(" (os error").next().unwrap_or_default())
                })?;
                let value = content.strip_suffix('\n').unwrap_or(&content);
                let value = value.strip_suffix('\r').unwrap_or(value);
                Ok(Some(value.to_owned()).filter(|value| !value.is_empty()))
            }
        }
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(environment: &'a Environment) -> Source<'a> {
        let notes = misspelt::warnings(environment.variables.keys().map(String::as_str));
        let mut source = Source { environment, ignored: Vec::new(), notes, errors: Vec::new() };
        for setting in SETTINGS {
            if let Err(problem) = environment.value(setting.name) {
                source.invalid(setting.name, problem);
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
            self.invalid(name, format!("expected {expected}"));
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

    /// Reports what is wrong with a setting.
    pub(super) fn invalid(&mut self, name: &'static str, problem: impl Into<String>) {
        let value = self.text(name).filter(|_| !find(name).secret);
        self.report(name, value, problem.into());
    }

    /// The same, for a value that must not be shown.
    pub(super) fn invalid_secret(&mut self, name: &'static str, problem: impl Into<String>) {
        self.report(name, None, problem.into());
    }

    fn report(&mut self, name: &'static str, value: Option<String>, problem: String) {
        let shown = match (self.environment.file(name), value) {
            (Some(path), Some(value)) => format!("{name}_FILE={path} holds {value}"),
            (Some(path), None) => format!("{name}_FILE={path}"),
            (None, Some(value)) => format!("{name}={value}"),
            (None, None) => name.to_owned(),
        };
        self.errors.push(SettingError { name, shown, problem });
    }

    /// The variable that holds, or would hold, the value of a setting.
    pub(super) fn variable(&self, name: &str) -> String {
        let suffix = if self.environment.file(name).is_some() { "_FILE" } else { "" };
        format!("{name}{suffix}")
    }

    /// Adds a warning about something that is not wrong.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Treats a variable as unset from here on.
    pub(super) fn ignore(&mut self, name: &'static str, note: &str) {
        self.ignored.push(name);
        self.note(note);
    }

    /// Warnings, every setting with its value or a mask, and the errors.
    pub(super) fn finish(self) -> (Vec<String>, Vec<(&'static str, String)>, Vec<SettingError>) {
        let show = |setting: &Setting| match (self.text(setting.name), setting.secret) {
            (Some(_), true) => "(set, not shown)".to_owned(),
            (Some(value), false) => value,
            (None, _) => setting.default.to_owned(),
        };
        let shown = SETTINGS.iter().map(|setting| (setting.name, show(setting))).collect();
        (self.notes, shown, self.errors)
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
    /// Whether it is about this setting.
    pub(super) fn names(&self, name: &str) -> bool {
        self.name == name
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.shown, self.problem)
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
    }

    #[test]
    fn an_error_names_the_variable_that_is_set() {
        let path = std::env::temp_dir().join(format!("twotier-source-named-{}", std::process::id()));
        fs::write(&path, "http\n").unwrap();
        let path = path.to_str().unwrap();
        let environment = environment(&[("PORT_FILE", path), ("ADMIN_TOKEN_FILE", "/no/such/file"), ("BIND", "x")]);
        let mut source = Source::new(&environment);
        for name in ["PORT", "BIND"] {
            source.invalid(name, "is odd");
        }
        let said: Vec<String> = source.finish().2.iter().map(ToString::to_string).collect();
        let want = [
            "ADMIN_TOKEN_FILE=/no/such/file: cannot be read: No such file or directory".to_owned(),
            format!("PORT_FILE={path} holds http: is odd"),
            "BIND=x: is odd".to_owned(),
        ];
        assert_eq!(said, want);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn both_forms_at_once_are_an_error() {
        let both = environment(&[("PORT", "1"), ("PORT_FILE", "/x")]);
        assert_eq!(both.value("PORT"), Err("cannot be combined with PORT_FILE; set one of them".to_owned()));
    }
}
