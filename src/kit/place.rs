//! Where a command connects, for error texts: host, port, database and user, never the password.

use std::error::Error as StdError;

use tokio_postgres::config::Host;
use tokio_postgres::{Config, Error};

use super::told;

/// Where this configuration leads: `db.example:5432 (database shop, user owner)`.
pub fn describe(config: &Config) -> String {
    let user = config.get_user().unwrap_or("unknown");
    let database = config.get_dbname().unwrap_or(user);
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            // One port counts for all hosts.
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(host) => format!("{host}:{port}"),
                Host::Unix(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            }
        })
        .collect();
    format!("{} (database {database}, user {user})", hosts.join(" or "))
}

/// Says that there is no connection: where to, and the cause as the system or the server gave it.
pub fn cannot_connect(config: &Config, error: &Error) -> String {
    format!("cannot connect to Postgres at {}: {}", describe(config), cause(error))
}

/// The server's words, or the last cause, behind what it was the cause of unless that says nothing.
pub fn cause(error: &Error) -> String {
    if error.as_db_error().is_some() {
        return told(error).trim_start_matches(": ").to_owned();
    }
    let Some(mut cause) = error.source() else { return error.to_string() };
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match error.to_string().as_str() {
        "error connecting to server" => cause.to_string(),
        outer => format!("{outer}: {cause}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> String {
        describe(&text.parse().unwrap())
    }

    #[test]
    fn a_place_has_everything_but_the_password() {
        for (text, expected) in [
            ("postgres://o:geheim@db.example/shop", "db.example:5432 (database shop, user o)"),
            ("postgres://o:geheim@db.example:5433", "db.example:5433 (database o, user o)"),
            ("host=/run/pg user=o password=geheim", "/run/pg/.s.PGSQL.5432 (database o, user o)"),
            ("host=a,b port=1,2 user=o", "a:1 or b:2 (database o, user o)"),
            ("host=a,b port=7 user=o", "a:7 or b:7 (database o, user o)"),
        ] {
            assert_eq!(place(text), expected);
        }
    }
}
