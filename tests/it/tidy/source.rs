//! A source file as the rules see it: production code without comments, its string literals, and its tokens.
//!
//! It is no parser of Rust. It knows comments, literals, attributes and braces, which is enough for the rules.

use super::{files, read};

/// A file of `src`, without its comments and without what only tests compile.
pub struct Source {
    /// Path below the top, like `src/http/server.rs`.
    pub path: String,
    /// The complete text.
    pub text: String,
    /// Production code; comments, tests and what stands inside of literals are blank. Lines stay where they are.
    pub code: String,
    /// The string literals of the production code, as they are written.
    pub strings: Vec<String>,
}

/// All files of `src`.
pub fn sources() -> Vec<Source> {
    files("src", ".rs").into_iter().map(|path| Source::new(&path, &read(&path))).collect()
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let mut literals = Vec::new();
        let code = without_tests(&blank(text, &mut literals));
        let kept = |at: &usize| code.as_bytes()[*at] == b'"';
        let strings = literals.iter().filter(|(at, _)| kept(at)).map(|(_, literal)| literal.clone()).collect();
        Source { path: path.to_owned(), text: text.to_owned(), code, strings }
    }

    /// The path of the module: `["http", "server"]`, and nothing for the root.
    pub fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let parts = path.split('/').filter(|part| !matches!(*part, "mod" | "lib"));
        parts.map(str::to_owned).collect()
    }

    /// Identifiers, `::`, and other characters one by one.
    pub fn tokens(&self) -> Vec<&str> {
        let (mut tokens, mut rest) = (Vec::new(), self.code.trim_start());
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            tokens.push(&rest[..length]);
            rest = rest[length..].trim_start();
        }
        tokens
    }

    /// Whether the production code has these tokens in a row, as in `env::var`.
    pub fn names(&self, path: &str) -> bool {
        let wanted = Source { path: String::new(), text: String::new(), code: path.to_owned(), strings: Vec::new() };
        let wanted = wanted.tokens();
        self.tokens().windows(wanted.len()).any(|tokens| tokens == wanted)
    }

    /// The functions of the production code with the number of their lines.
    pub fn functions(&self) -> Vec<(String, usize)> {
        let mut functions = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            let name: String = self.code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let starts_word = !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if starts_word && !name.is_empty() {
                let item = &self.code[at..at + item_length(&self.code[at..])];
                functions.push((name, item.lines().filter(|line| !line.trim().is_empty()).count()));
            }
        }
        functions
    }
}

/// The text with blanks for comments and for the insides of literals, and the string literals with their places.
fn blank(text: &str, literals: &mut Vec<(usize, String)>) -> String {
    let mut code = text.as_bytes().to_vec();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let (length, inside) = match bytes[at] {
            b'/' if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), None),
            b'/' if rest.starts_with("/*") => (rest.find("*/").map_or(rest.len(), |end| end + 2), None),
            b'"' => string(rest),
            b'r' if !follows_word(bytes, at) && is_raw(&rest[1..]) => raw_string(rest),
            b'\'' => character(rest),
            _ => (0, None),
        };
        if length == 0 {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        }
        let blanked = match inside {
            Some((start, end)) => {
                if bytes[at + start - 1] != b'\'' {
                    literals.push((at + start - 1, text[at + start..at + end].to_owned()));
                }
                at + start..at + end
            }
            None => at..at + length,
        };
        code[blanked].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at += length;
    }
    String::from_utf8(code).expect("blanks for complete characters")
}

/// The length of a literal, and where its inside begins and ends.
type Literal = (usize, Option<(usize, usize)>);

fn string(rest: &str) -> Literal {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return (at + 1, Some((1, at))),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    (rest.len(), Some((1, rest.len())))
}

fn is_raw(rest: &str) -> bool {
    rest.trim_start_matches('#').starts_with('"')
}

fn raw_string(rest: &str) -> Literal {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let (start, end) = (hashes + 2, format!("\"{}", "#".repeat(hashes)));
    let length = rest[start..].find(&end).map_or(rest.len() - start, |length| length);
    ((start + length + end.len()).min(rest.len()), Some((start, start + length)))
}

/// A character, or nothing when this is a lifetime.
fn character(rest: &str) -> Literal {
    let inside = match rest[1..].strip_prefix('\\') {
        Some(escaped) => escaped[1..].find('\'').map(|end| end + 2),
        None => rest[1..].chars().next().map(char::len_utf8),
    };
    match inside {
        Some(length) if rest[1 + length..].starts_with('\'') => (length + 2, Some((1, 1 + length))),
        Some(_) | None => (0, None),
    }
}

fn follows_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// The code with blanks for each item that only tests compile.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    let mut from = 0;
    while let Some(at) = code[from..].find("#[cfg(").map(|at| from + at) {
        let condition: String = code[at..].chars().take_while(|c| *c != ']').collect();
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let is_test = condition.split(|c| !is_word(c)).any(|word| word == "test") && !condition.contains("not(");
        from = at + condition.len();
        if is_test {
            let end = from + 1 + item_length(&code[from + 1..]);
            let blanks = code[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect::<String>();
            code.replace_range(at..end, &blanks);
        }
    }
    code
}

/// The length of an item: to its `;` or `,`, to the end of its braces, or to the end of what it stands in.
fn item_length(code: &str) -> usize {
    let (mut depth, mut braces) = (0usize, 0usize);
    let mut before = b' ';
    for (at, byte) in code.bytes().enumerate() {
        let follows_arrow = matches!(before, b'-' | b'=');
        before = byte;
        match byte {
            // Generics; between braces these may be comparisons.
            b'<' if braces == 0 => depth += 1,
            b'>' if braces == 0 && !follows_arrow => depth = depth.saturating_sub(1),
            b'(' | b'[' => depth += 1,
            b'{' => (depth, braces) = (depth + 1, braces + 1),
            b')' | b']' | b'}' if depth == 0 => return at,
            b')' | b']' => depth -= 1,
            b'}' => {
                (depth, braces) = (depth - 1, braces - 1);
                if depth == 0 && braces == 0 {
                    return at + 1;
                }
            }
            b';' | b',' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

#[test]
fn comments_literals_and_tests_are_not_code_and_what_follows_a_test_is() {
    let source = Source::new(
        "src/a/mod.rs",
        r##"//! env::var
#[cfg(test)]
use std::env::args;
fn a<'a>(x: &'a str) -> char { let _ = "a \" // b"; '"' } /* process::exit */
#[cfg(test)]
mod tests { fn b() { process::exit("}") } }
#[cfg(not(test))]
fn c() { let _ = (r#"SELECT "1""#, '\''); mysql::query() }
struct S { #[cfg(test)] d: env::D, e: E }
#[cfg(test)]
fn d(x: Map<A, Vec<B>>) -> Result<A, B> { process::exit(1) }
fn e() -> Result<A, B> {
    let x = a < b;
}
"##,
    );
    assert_eq!(source.strings, [r#"a \" // b"#, r#"SELECT "1""#]);
    assert!(source.names("mysql::query") && source.names("e: E"));
    for absent in ["env::var", "env::args", "process::exit", "env::D", "tests"] {
        assert!(!source.names(absent), "{absent} in {}", source.code);
    }
    assert_eq!(source.functions(), [("a".to_owned(), 1), ("c".to_owned(), 1), ("e".to_owned(), 3)]);
    assert_eq!(source.module(), ["a"]);
}
