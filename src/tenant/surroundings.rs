//! What the database adds to what a statement's text says.
//!
//! Whether a server connection is still clean is read out of the statements that it ran. A text
//! does not tell which names stand for the application's own code, nor what runs unnamed.

use std::collections::BTreeSet;

use super::directory::{Directory, Error};

/// The answer of `cloison.surroundings()` for one login role, at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Surroundings {
    /// Names, as the catalogue spells them, of functions outside of Postgres itself that the role
    /// may call.
    pub functions: BTreeSet<String>,
    /// Those of them that stand only for functions which the operator vouches for.
    pub vouched: BTreeSet<String>,
    /// Whether a statement can run the application's code without naming it.
    pub implicit_code: bool,
    /// By way of which object, for the log.
    pub blame: Option<String>,
    /// Whether the role may ask what its session has drawn from a sequence.
    pub sequences: bool,
    /// Whether the role may read the texts of the prepared statements of its session.
    pub reads_statements: bool,
}

impl Directory {
    /// What statements of `login` can run that their texts do not show. `vouched` are the
    /// schema-qualified names of functions that leave nothing in a session.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does, and when there is no such role.
    pub async fn surroundings(
        &self,
        login: &str,
        vouched: &[String],
    ) -> Result<Surroundings, Error> {
        let client = self.control().client().await?;
        let statement = include_str!("../../sql/control/surroundings.sql");
        let row = client.query_one(statement, &[&login, &vouched]).await?;
        let functions: Vec<String> = row.try_get("functions")?;
        let vouched: Vec<String> = row.try_get("vouched")?;
        Ok(Surroundings {
            functions: functions.into_iter().collect(),
            vouched: vouched.into_iter().collect(),
            implicit_code: row.try_get("implicit_code")?,
            blame: row.try_get("blame")?,
            sequences: row.try_get("sequences")?,
            reads_statements: row.try_get("reads_statements")?,
        })
    }
}
