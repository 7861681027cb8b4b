//! The tenant kit: installs and checks the SQL side of Cloison; never sees a client.

pub mod adopt;
pub mod audit;
pub mod harden;
pub mod lint;
pub mod logins;
pub mod migrate;
pub mod place;
pub mod rights;
pub mod verify;

/// The server's own words, which `tokio_postgres::Error` keeps to itself when displayed.
fn told(error: &tokio_postgres::Error) -> String {
    let Some(told) = error.as_db_error() else {
        return String::new();
    };
    let hint = told.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!(": {}{hint} [{}]", told.message(), told.code().code())
}
