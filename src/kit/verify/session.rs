//! A connection that tries statements and takes back whatever they did.

use std::error::Error as StdError;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::check::Layer;
use super::{Error, Road};
use crate::kit::place;

/// What came of one statement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reaction {
    /// It ran: so many rows were written, or this was counted.
    Ran(i64),
    /// Refused for want of a right, 42501, and by what.
    Denied(Layer),
    /// No policy refused the row; a constraint did.
    Constraint(String),
    /// Something else was in the way, which says nothing about policies.
    Other(String),
}

/// A statement, and its parameters as text. A count is the first column of the only row.
#[derive(Clone, Debug)]
pub(super) enum Step<'a> {
    Count(String, Vec<Option<&'a str>>),
    Write(String, Vec<Option<&'a str>>),
}

/// A connection along one road.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    /// As what it was opened, for error messages.
    who: String,
}

impl Session {
    pub(super) async fn open(road: &Road) -> Result<Self, Error> {
        let connect = road.config.connect(road.tls.clone());
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let failed = |why| Error::Connect { who: road.who.clone(), why };
        let (client, connection) = connected
            .map_err(|_| failed("no answer within 30 seconds".to_owned()))?
            .map_err(|error| {
                let place = place::describe(&road.config);
                failed(format!("{place}: {}", place::cause(&error)))
            })?;
        let connection = tokio::spawn(async move {
            // Why it broke is in the error of the statement that it broke.
            let _ = connection.await;
        });
        Ok(Self { client, connection, who: road.who.clone() })
    }

    /// For what has errors of its own to tell.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Says goodbye, so that the pool has the server connection back for whoever comes next.
    pub(super) async fn close(self) {
        drop(self.client);
        let _ = tokio::time::timeout(CONNECT_TIMEOUT, self.connection).await;
    }

    /// For what is no check: any error is the end.
    pub(super) async fn query(
        &self,
        doing: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, Error> {
        let failed = |error| Error::statement(&self.who, doing, &error);
        self.client.query(sql, parameters).await.map_err(failed)
    }

    /// Runs outside of any transaction of ours, and stays done.
    pub(super) async fn keep(&self, sql: &str) -> Result<Reaction, Error> {
        match self.client.batch_execute(sql).await {
            Ok(()) => Ok(Reaction::Ran(0)),
            Err(error) => self.reaction(error),
        }
    }

    /// One step in a transaction that is rolled back.
    pub(super) async fn attempt(&self, step: Step<'_>) -> Result<Reaction, Error> {
        let reactions = self.attempts(&[step]).await?;
        let none = || Reaction::Other("nothing was tried".to_owned());
        Ok(reactions.into_iter().next().unwrap_or_else(none))
    }

    /// Steps in one transaction, which is rolled back; those after a failing one are not run.
    pub(super) async fn attempts(&self, steps: &[Step<'_>]) -> Result<Vec<Reaction>, Error> {
        let mut reactions = Vec::new();
        if let Err(error) = self.client.batch_execute(BEGIN).await {
            return Ok(vec![self.reaction(error)?]);
        }
        for step in steps {
            let reaction = match self.step(step).await {
                Ok(count) => Reaction::Ran(count),
                Err(error) => self.reaction(error)?,
            };
            let goes_on = matches!(reaction, Reaction::Ran(_));
            reactions.push(reaction);
            if !goes_on {
                break;
            }
        }
        let failed = |error| Error::statement(&self.who, "roll back", &error);
        self.client.batch_execute("rollback").await.map_err(failed)?;
        Ok(reactions)
    }

    /// Counts in one message with what comes before it, so that nobody can act in between.
    pub(super) async fn count_after(&self, before: &str, sql: &str) -> Result<Reaction, Error> {
        let text = format!("{BEGIN}; {before}; {sql}; rollback");
        let reaction = match self.client.simple_query(&text).await {
            Err(error) => {
                let reaction = self.reaction(error)?;
                let failed = |error| Error::statement(&self.who, "roll back", &error);
                self.client.batch_execute("rollback").await.map_err(failed)?;
                return Ok(reaction);
            }
            Ok(messages) => messages.iter().rev().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
                SimpleQueryMessage::CommandComplete(_) | _ => None,
            }),
        };
        let none = || Reaction::Other("there was no answer to count".to_owned());
        Ok(reaction.map_or_else(none, Reaction::Ran))
    }

    async fn step(&self, step: &Step<'_>) -> Result<i64, tokio_postgres::Error> {
        let (Step::Count(sql, values) | Step::Write(sql, values)) = step;
        let values: Vec<&(dyn ToSql + Sync)> =
            values.iter().map(|value| value as &(dyn ToSql + Sync)).collect();
        match step {
            Step::Count(..) => self.client.query_one(sql, &values).await?.try_get(0),
            Step::Write(..) => {
                let rows = self.client.execute(sql, &values).await?;
                Ok(i64::try_from(rows).unwrap_or(i64::MAX))
            }
        }
    }

    /// Postgres' answer, judged; without one the connection is lost, and nothing can be judged.
    fn reaction(&self, error: tokio_postgres::Error) -> Result<Reaction, Error> {
        let Some(answer) = error.as_db_error() else {
            return Err(Error::statement(&self.who, "go on", &error));
        };
        let code = answer.code().code();
        let layer = layer(answer.routine(), answer.where_());
        Ok(judge(code, answer.routine(), layer, answer.datatype().is_some(), told(&error)))
    }
}

/// What an error says about policies.
///
/// A row is held against the policies before it is held against the table's constraints, so a
/// constraint that speaks up means that they let it pass. A trigger or a domain may speak before
/// them.
fn judge(
    code: &str,
    routine: Option<&str>,
    layer: Layer,
    is_of_type: bool,
    told: String,
) -> Reaction {
    let is_early = matches!(routine, Some("exec_stmt_raise" | "ExecFindPartition")) || is_of_type;
    if code == "42501" {
        Reaction::Denied(layer)
    } else if code.starts_with("23") && !is_early {
        Reaction::Constraint(told)
    } else {
        Reaction::Other(told)
    }
}

/// What refused, by the place in the server that did.
fn layer(routine: Option<&str>, place: Option<&str>) -> Layer {
    if place.is_some_and(|place| place.contains("function cloison.")) {
        Layer::Context
    } else if matches!(routine, Some("ExecWithCheckOptions" | "check_enable_rls")) {
        Layer::Policy
    } else {
        Layer::Grant
    }
}

/// The server's own words, which `tokio_postgres::Error` keeps to itself when displayed.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        return format!("{} [{}]", answer.message(), answer.code().code());
    }
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Nothing waits for long, and what is counted and what is written are the same rows.
const BEGIN: &str = "begin isolation level repeatable read; \
                     set local lock_timeout = '5s'; set local statement_timeout = '60s'";

/// For connecting and for saying goodbye.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &str, routine: &str, is_of_type: bool, expected: Reaction) {
        let layer = layer(Some(routine), None);
        let told = "told".to_owned();
        assert_eq!(judge(code, Some(routine), layer, is_of_type, told), expected);
    }

    #[test]
    fn only_a_constraint_of_the_table_shows_that_policies_let_a_row_pass() {
        let constraint = || Reaction::Constraint("told".to_owned());
        let other = || Reaction::Other("told".to_owned());
        check("42501", "ExecWithCheckOptions", false, Reaction::Denied(Layer::Policy));
        check("42501", "aclcheck_error", false, Reaction::Denied(Layer::Grant));
        check("23502", "ExecConstraints", false, constraint());
        check("23505", "_bt_check_unique", false, constraint());
        check("23503", "ri_ReportViolation", false, constraint());
        check("23502", "ExecEvalConstraintNotNull", true, other());
        check("23514", "ExecFindPartition", false, other());
        check("23514", "exec_stmt_raise", false, other());
        check("57014", "ProcessInterrupts", false, other());
    }
}
