//! The files that pages load: the style, the scripts and the icon. Each has a name that changes with its content.
//!
//! Comments and indentation stay in the repository: the server drops them when it starts.

use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../templates/style.css");
/// The parts of the script. Functions may call later ones; the values of a part are known only to later ones.
const SCRIPT: [&str; 5] = [
    include_str!("../../templates/app.js"),
    include_str!("../../templates/cards.js"),
    include_str!("../../templates/list.js"),
    include_str!("../../templates/form.js"),
    include_str!("../../templates/live.js"),
];
/// A file of its own, because only moderators load it.
const MODERATION: &str = include_str!("../../templates/moderation.js");
const ICON: &str = include_str!("../../templates/icon.svg");

/// A file that pages load.
pub struct Asset {
    /// The last part of its path.
    pub name: String,
    /// Its media type.
    pub content_type: &'static str,
    /// What it holds.
    pub content: String,
}

/// All files of a board.
pub(super) struct Assets {
    pub(super) style: Asset,
    pub(super) script: Asset,
    pub(super) icon: Asset,
    moderation: Asset,
}

impl Assets {
    pub(super) fn new() -> Assets {
        const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
        let moderation = Asset::new("moderation", "js", JAVASCRIPT, short_script(MODERATION));
        let script: String = SCRIPT.into_iter().map(short_script).collect();
        let script = script.replace("{{moderation}}", &moderation.name);
        Assets {
            style: Asset::new("style", "css", "text/css; charset=utf-8", short_style(STYLE)),
            script: Asset::new("app", "js", JAVASCRIPT, script),
            icon: Asset::new("icon", "svg", "image/svg+xml", ICON.to_owned()),
            moderation,
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Asset> {
        [&self.style, &self.script, &self.icon, &self.moderation].into_iter().find(|asset| asset.name == name)
    }
}

impl Asset {
    fn new(stem: &str, extension: &str, content_type: &'static str, content: String) -> Asset {
        let hash = Sha256::digest(&content).iter().take(6).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        Asset { name: format!("{stem}-{hash}.{extension}"), content_type, content }
    }
}

/// A script without comments and without the blanks, line ends and semicolons that only people need.
fn short_script(source: &str) -> String {
    let mut script = String::with_capacity(source.len());
    let mut declared = None;
    for mut line in source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
        // Before these characters a line end never ends a statement, or the character does.
        if line.starts_with(['}', ')', ']', '.', '?', ':', '&', '|']) && script.ends_with('\n') {
            script.pop();
        }
        if line.starts_with('}') && script.ends_with(';') {
            script.pop();
        }
        // Declarations in a row are one.
        let declares = ["const ", "let "].into_iter().find(|word| line.starts_with(word));
        if declares.is_some() && declares == declared {
            script.pop();
            script.push(',');
            line = &line[declares.map_or(0, str::len)..];
        }
        declared = declares.filter(|_| line.ends_with(';'));
        push_without_blanks(&mut script, line);
        // A brace of its own closes a block. After these characters a line end never ends a statement.
        if line != "}" && !line.ends_with(['{', '(', ',', ';']) {
            script.push('\n');
        }
    }
    script
}

/// Appends a line without the blanks next to punctuation, except inside of texts. Signs of sums keep theirs: `a + +b`.
fn push_without_blanks(script: &mut String, line: &str) {
    let is_mark = |c: Option<char>| c.is_some_and(|c| "=(){}[],:;?<>&|!".contains(c));
    let (mut quote, mut last) = (None, None);
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            // A regular expression may have quotes.
            None if c == '/' => {
                script.push(c);
                return script.extend(rest);
            }
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if c == ' ' && (is_mark(last) || is_mark(rest.peek().copied())) => continue,
            None => {}
        }
        script.push(c);
        last = Some(c);
    }
}

/// A style on one line, without the blanks that only people need.
fn short_style(source: &str) -> String {
    let mut style: String = source.lines().map(str::trim).filter(|line| !line.starts_with("/*")).collect();
    for (long, short) in [
        (": ", ":"),
        (", ", ","),
        (" {", "{"),
        ("{ ", "{"),
        ("; ", ";"),
        (" }", "}"),
        (";}", "}"),
        ("> ", ">"),
        (" >", ">"),
    ] {
        style = style.replace(long, short);
    }
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_script_has_all_the_code_and_no_comment() {
        let source = "// a\nconst b = (c) => {\n  // d\n\n  return c && \" ; \" + e;\n};\nlet q = 1;\nlet r;\nconst s = 2;\nf(`g/ = ${ h }`, i)\nj = /k = l/\nm = n\n  ? o\n  : p;\nif (t) {\n  u();\n}\nv();\n";
        let want = "const b=(c)=>{return c&&\" ; \" + e};let q=1,r;const s=2;f(`g/ = ${ h }`,i)\nj=/k = l/\nm=n?o:p;if(t){u()}v();";
        assert_eq!(short_script(source), want);
    }

    #[test]
    fn a_short_style_has_all_the_rules_and_no_comment() {
        let style = "/* a */\nli:has(> p) > :not(b),\na {\n  color: light-dark(#fff, #000);\n}\n@media (x: y) { p { b: c; } }\n";
        let want = "li:has(>p)>:not(b),a{color:light-dark(#fff,#000)}@media (x:y){p{b:c}}";
        assert_eq!(short_style(style), want);
    }

    /// So nothing but blanks and comments is lost.
    #[test]
    fn no_text_of_a_script_or_style_goes_over_several_lines() {
        for source in SCRIPT.into_iter().chain([MODERATION]) {
            for line in source.lines() {
                let are_paired = |quote: char| line.matches(quote).count().is_multiple_of(2);
                let is_plain = !line.contains("/*") && !line.contains("\\\"") && !line.ends_with('\\');
                assert!(are_paired('`') && (are_paired('"') || line.contains('/')) && is_plain, "{line}");
                // A comment after code would swallow the next line.
                assert!(!line.contains("//") || line.trim_start().starts_with("//"), "{line}");
            }
        }
        for line in STYLE.lines() {
            assert_eq!(line.contains("/*"), line.starts_with("/*") && line.ends_with("*/"), "{line}");
            assert!(!line.contains(['"', '\'']), "{line}");
        }
    }

    #[test]
    fn a_name_changes_with_the_content_and_no_placeholder_is_left() {
        let [a, b] = ["a", "b"].map(|content| Asset::new("x", "css", "text/css", content.to_owned()));
        assert_ne!(a.name, b.name);
        let assets = Assets::new();
        assert!(assets.script.content.contains(&assets.moderation.name) && !assets.script.content.contains("{{"));
        assert!(assets.find("style.css").is_none());
    }
}
