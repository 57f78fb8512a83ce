//! Changes of the table: created when it is missing, and brought up from the Flask app's shape step by step.
//!
//! Each step is chosen by a description of the table, so several replicas may do this at the same time, and an interrupted
//! migration goes on where it stopped. No statement here has a time limit, and none runs when the shape is current.

use log::warn;
use mysql::prelude::Queryable;

use super::client::{Database, failure};
use super::connection::Connection;
use super::error::Error;
use super::migration_step::{Step, create_statements};
use super::schema::{SchemaState, Table};

/// Steps that are tried before giving up; far more than there are.
const MAX_STEPS: usize = 50;

/// Creates or changes the table until its shape is current; `report` gets the description of each step before it begins.
pub(super) fn migrate(database: &Database, take_over: bool, report: impl Fn(&'static str)) -> Result<(), Error> {
    let mut connection = database.connect_unlimited()?;
    for _ in 0..MAX_STEPS {
        let table = Table::describe(&mut connection).map_err(|error| failure(&error))?;
        match table.state(take_over) {
            SchemaState::Current => return Ok(()),
            SchemaState::Incompatible(reason) => return Err(Error::Incompatible(reason)),
            SchemaState::Missing => {
                report("creating the table");
                run(&mut connection, &create_statements()).map_err(|error| failure(&error))?;
            }
            SchemaState::Needs(step) => {
                report(step.describe());
                match run(&mut connection, &step.statements()) {
                    Ok(()) => {}
                    Err(mysql::Error::MySqlError(error)) if is_prevented_by_foreign_key(&step, error.code) => {
                        warn!(
                            "the ids stay narrow: {}; drop the foreign key, restart, and add it again",
                            error.message
                        );
                        return Ok(());
                    }
                    Err(error) => return Err(failure(&error)),
                }
            }
        }
    }
    let reason = "the table messages still needs changes after many steps; is another program altering it?";
    Err(Error::Refused(reason.to_owned()))
}

/// Foreign keys of other tables keep the type of the ids; the table can be used all the same.
fn is_prevented_by_foreign_key(step: &Step, code: u16) -> bool {
    matches!(step, Step::WidenId { .. }) && matches!(code, 1025 | 1832 | 1833 | 1834 | 3780)
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
