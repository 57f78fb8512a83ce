//! The way from a page to the board. All links are relative, so that a proxy may put the board below any path.

/// How many folders a page's path is below that of the board: its links go up as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth(usize);

/// Folders of a path that links go up. Only paths that do not exist have more than one.
const MAX_DEPTH: usize = 16;

impl Depth {
    /// The board's own page, and the form's target beside it.
    pub const ROOT: Depth = Depth(0);

    /// The depth of the path of a request.
    pub fn of(path: &str) -> Depth {
        Depth(path.bytes().filter(|b| *b == b'/').count().saturating_sub(1).min(MAX_DEPTH))
    }

    /// Appends what leads from the page to the board.
    pub(super) fn push_root(self, out: &mut String) {
        match self.0 {
            0 => out.push_str("./"),
            folders => (0..folders).for_each(|_| out.push_str("../")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_go_up_as_many_folders_as_the_path_has() {
        let root = |path: &str| {
            let mut out = String::new();
            Depth::of(path).push_root(&mut out);
            out
        };
        for (path, want) in [("/", "./"), ("/submit", "./"), ("/messages/7", "../"), ("/a/b//", "../../../")] {
            assert_eq!(root(path), want, "{path}");
        }
        assert_eq!(Depth::of(&"/".repeat(5000)), Depth(MAX_DEPTH));
    }
}
