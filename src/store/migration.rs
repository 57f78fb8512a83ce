//! The migration: creates the table when it is missing, and changes an older one step by step, the Flask app's for example.
//!
//! A description of the table decides on each step, so several replicas may migrate at the same time, and an interrupted
//! migration continues where it stopped. No statement here has a time limit, and none runs when the shape is current.

use log::warn;
use mysql::prelude::Queryable;

use super::client::Database;
use super::connection::Connection;
use super::driver_error::words;
use super::error::Error;
use super::migration_step::Step;
use super::schema::{SchemaState, Table};

/// Steps that are tried before giving up; far more than there are.
const MAX_STEPS: usize = 50;

const DUPLICATE_KEYS: &str = "some messages have the same submit_key; run: UPDATE messages SET submit_key = NULL WHERE \
    submit_key IN (SELECT * FROM (SELECT submit_key FROM messages GROUP BY submit_key HAVING COUNT(*) > 1) AS duplicates)";

/// Creates or changes the table until its shape is current; `report` gets the description of each step before it begins.
pub(super) fn migrate(database: &Database, take_over: bool, report: impl Fn(&'static str)) -> Result<(), Error> {
    let mut connection = database.connect_unlimited()?;
    for _ in 0..MAX_STEPS {
        let table = Table::describe(&mut connection).map_err(|error| Error::of_driver(&error))?;
        let state = table.state(take_over);
        let description = match &state {
            SchemaState::Current => return Ok(()),
            SchemaState::Incompatible(reason) => return Err(Error::Incompatible(reason.clone())),
            SchemaState::Missing => "creating the table",
            SchemaState::Needs(step) => step.describe(),
        };
        report(description);
        let Err(error) = run(&mut connection, &state.statements()) else { continue };
        let code = if let mysql::Error::MySqlError(error) = &error { error.code } else { 0 };
        let obstacle = match &state {
            // Foreign keys of other tables keep the type of the ids; the table can still be used.
            SchemaState::Needs(Step::WidenId { .. }) if matches!(code, 1025 | 1832 | 1833 | 1834 | 3780) => {
                warn!("the ids stay narrow: {}; drop the foreign key, restart, and add it again", words(&error));
                return Ok(());
            }
            SchemaState::Needs(Step::LocalTimeToTimestamp) if code == 1292 => invalid_times(table.needs_time()),
            SchemaState::Needs(Step::AddKey) if code == 1062 => DUPLICATE_KEYS.to_owned(),
            _ => return Err(Error::of_driver(&error)),
        };
        return Err(Error::Incompatible(format!("the table messages can't be used: {obstacle}")));
    }
    let reason = "the table messages still needs changes after many steps; is another program altering it?";
    Err(Error::Refused(reason.to_owned()))
}

/// Some times of another program are no moments: before 1970, above the range of TIMESTAMP, incomplete, or skipped when the
/// clock went forward. `needed` means that the column takes no NULL.
fn invalid_times(needed: bool) -> String {
    let statement = if needed {
        // The default mode of MySQL refuses to rewrite incomplete dates.
        "SET sql_mode = ''; ALTER TABLE messages MODIFY created_at DATETIME(6) NULL"
    } else {
        "UPDATE messages SET created_at = NULL WHERE NOT (FROM_UNIXTIME(UNIX_TIMESTAMP(created_at)) <=> created_at)"
    };
    format!("some times in created_at do not exist in the time zone of the server; run: {statement}")
}

fn run(connection: &mut Connection, statements: &[String]) -> Result<(), mysql::Error> {
    for statement in statements {
        match connection.conn()?.query_drop(statement) {
            Ok(()) => {}
            // The table, the column or the key exists: another replica was faster.
            Err(mysql::Error::MySqlError(error)) if matches!(error.code, 1050 | 1060 | 1061) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
