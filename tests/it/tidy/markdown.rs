//! What the rules need of Markdown: tables, headings, links and code.

use super::read;

/// A document of the repository.
pub struct Document {
    /// Path below the top.
    pub path: String,
    pub text: String,
}

/// A table: its header cells, and the cells of each row.
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Document {
    pub fn read(path: &str) -> Document {
        Document { path: path.to_owned(), text: read(path) }
    }

    /// The lines outside of code blocks.
    pub fn prose(&self) -> Vec<&str> {
        let mut in_code = false;
        let lines = self.text.lines().filter(|line| {
            in_code ^= line.trim_start().starts_with("```");
            !in_code && !line.trim_start().starts_with("```")
        });
        lines.collect()
    }

    /// Code blocks and `code` in lines.
    pub fn code(&self) -> Vec<&str> {
        self.text.split("```").skip(1).step_by(2).chain(self.prose().into_iter().flat_map(code)).collect()
    }

    /// The tables whose first header cell is this.
    pub fn tables(&self, first: &str) -> Vec<Table> {
        let prose = self.prose();
        let mut tables = Vec::new();
        for (at, line) in prose.iter().enumerate() {
            let is_header = prose.get(at + 1).is_some_and(|next| next.starts_with("|---"));
            if is_header && cells(line)[0] == first {
                let rows = prose[at + 2..].iter().take_while(|line| line.starts_with('|')).map(|line| cells(line));
                tables.push(Table { header: cells(line), rows: rows.collect() });
            }
        }
        tables
    }

    /// The only table whose first header cell is this.
    #[track_caller]
    pub fn table(&self, first: &str) -> Table {
        let mut tables = self.tables(first);
        assert_eq!(tables.len(), 1, "tables in {} that begin with {first}", self.path);
        tables.remove(0)
    }

    /// The anchors of the headings.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.prose().into_iter().filter(|line| line.starts_with('#'));
        headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
    }

    /// The targets of the links and pictures that lead into the repository.
    pub fn links(&self) -> Vec<&str> {
        let links = self.prose().into_iter().flat_map(|line| line.split("](").skip(1));
        links.filter_map(|link| link.split(')').next()).filter(|link| !link.contains("://")).collect()
    }
}

/// The `code` in a line.
pub fn code(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|').replace("\\|", "\u{1}");
    row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
}

/// A heading as the address of a link.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
    kept.replace(' ', "-")
}
