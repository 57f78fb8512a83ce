//! Checks of the database while the service runs: whether reads work, and whether writes can work. They consume no id and
//! change no row.

use mysql::prelude::Queryable;

use super::client::Client;
use super::connection::Statement;
use super::error::{Error, WriteBlock};
use super::messages::read;
use super::migration_step::Step;
use super::schema::{SchemaState, Table};
use super::session::{Version, is_on};

/// Each needs the privilege and a server that takes writes, and finds no row.
const WRITES: [&str; 3] = [
    "INSERT INTO messages (message, submit_key) SELECT '', NULL FROM DUAL WHERE FALSE LIMIT 1",
    "UPDATE messages SET message = message, edited_at = edited_at WHERE FALSE ORDER BY id LIMIT 1",
    "DELETE FROM messages WHERE FALSE ORDER BY id LIMIT 1",
];
const READ: Statement<'_> =
    Statement::new("check_reads", "SELECT id, message, created_at, edited_at FROM messages ORDER BY id LIMIT 1");
const READ_ONLY: &str = "SELECT @@GLOBAL.read_only, @@innodb_read_only LIMIT 1";
const FLUSH_LOG: &str = "SELECT @@innodb_flush_log_at_trx_commit LIMIT 1";

impl Client {
    /// What the server is.
    pub fn version(&mut self) -> Result<Version, Error> {
        self.run(|connection, _| Ok(connection.info.version.clone()))
    }

    /// The description of the table.
    pub fn table(&mut self) -> Result<Table, Error> {
        self.run(|connection, _| Table::describe(connection))
    }

    /// Whether the table has triggers, as far as this user may see them.
    pub(super) fn has_triggers(&mut self) -> Result<bool, Error> {
        self.run(|connection, _| Table::has_triggers(connection))
    }

    /// The setting `innodb_flush_log_at_trx_commit`.
    pub fn flush_log(&mut self) -> Result<String, Error> {
        let value: Option<String> = self.run(|connection, _| connection.conn()?.query_first(FLUSH_LOG))?;
        Ok(value.unwrap_or_default())
    }

    /// Whether reads work, with all columns.
    pub fn check_reads(&mut self) -> Result<(), Error> {
        self.run(|connection, _| read(connection, READ, ()).map(drop))
    }

    /// Why writes can't work, if they can't.
    ///
    /// # Errors
    /// When the check itself fails, which says nothing of writes.
    pub fn write_block(&mut self, take_over: bool) -> Result<Option<WriteBlock>, Error> {
        let table = self.run(|connection, _| {
            let read_only: Option<(String, String)> = connection.conn()?.query_first(READ_ONLY)?;
            if read_only.is_some_and(|(global, engine)| is_on(&global) || is_on(&engine)) {
                return Ok(Err(WriteBlock::ReadOnly));
            }
            let info = connection.info.clone();
            if info.has_lost_cluster(connection.conn()?)? {
                return Ok(Err(WriteBlock::LostCluster));
            }
            Table::describe(connection).map(Ok)
        })?;
        let table = match table {
            Ok(table) => table,
            Err(block) => return Ok(Some(block)),
        };
        let state = table.state(take_over);
        let reason = match &state {
            SchemaState::Current | SchemaState::Needs(Step::WidenId { .. }) if table.is_out_of_ids() => {
                return Ok(Some(WriteBlock::NoIdsLeft));
            }
            SchemaState::Current | SchemaState::Needs(Step::WidenId { .. }) => return self.missing_privilege(),
            SchemaState::Missing => "the table messages does not exist".to_owned(),
            SchemaState::Incompatible(reason) => reason.clone(),
            SchemaState::Needs(_) => {
                let statements = state.statements().join("; ");
                format!("the table messages was changed; restart this service, or run: {statements}")
            }
        };
        Ok(Some(WriteBlock::Table(reason)))
    }

    /// Tries each kind of write without a row.
    fn missing_privilege(&mut self) -> Result<Option<WriteBlock>, Error> {
        for statement in WRITES {
            match self.run(|connection, _| connection.query("check_writes", |conn| conn.query_drop(statement))) {
                Ok(()) => {}
                Err(Error::Forbidden(reason)) => return Ok(Some(WriteBlock::MissingPrivilege(reason))),
                Err(Error::NotWritable(block)) => return Ok(Some(block)),
                Err(Error::Refused(reason)) => return Ok(Some(WriteBlock::Table(reason))),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
