//! Why writes can't work while reads do: the reasons, in words for people and as a label for metrics.

use std::fmt;

/// A reason that prevents writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteBlock {
    /// The server is read-only.
    ReadOnly,
    /// The server is a Galera node outside the primary component.
    LostCluster,
    /// The user may not write; the text is the server's.
    MissingPrivilege(String),
    /// The table can't store messages safely; the text says why.
    Table(String),
    /// The table has no ids left.
    NoIdsLeft,
}

impl WriteBlock {
    /// Its name in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            WriteBlock::ReadOnly => "read_only",
            WriteBlock::LostCluster => "lost_cluster",
            WriteBlock::MissingPrivilege(_) => "missing_privilege",
            WriteBlock::Table(_) => "table",
            WriteBlock::NoIdsLeft => "no_ids_left",
        }
    }

    /// The reason without names and addresses, for an answer that anybody may read.
    pub fn summary(&self) -> &'static str {
        match self {
            WriteBlock::ReadOnly => "the database server is read-only",
            WriteBlock::LostCluster => "this node has lost its cluster",
            WriteBlock::MissingPrivilege(_) => "the database user may not write",
            WriteBlock::Table(_) => "the table can't store messages safely",
            WriteBlock::NoIdsLeft => "the table has no ids left",
        }
    }

    /// All names in metrics.
    pub const LABELS: [&'static str; 5] = ["read_only", "lost_cluster", "missing_privilege", "table", "no_ids_left"];
}

impl fmt::Display for WriteBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteBlock::ReadOnly => f.write_str("the database server is read-only"),
            WriteBlock::LostCluster => f.write_str("this node has lost its cluster"),
            WriteBlock::MissingPrivilege(reason) => {
                write!(f, "the user lacks a privilege ({reason}): check the grants of the database user")
            }
            WriteBlock::Table(reason) => f.write_str(reason),
            WriteBlock::NoIdsLeft => {
                f.write_str("the table messages has no ids left: widen its column id to BIGINT UNSIGNED")
            }
        }
    }
}
