//! Logins of the proxy: roles with a password, each a member of one of the kit's groups.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::types::{Access, Secret};

/// A password that nobody can guess: 244 random bits, as text without special characters.
pub fn random_password() -> Secret<String> {
    Secret::new(format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()))
}

/// SQL that lets a role log in with this password. The server gets the SCRAM verifier only, so the
/// password is never in its log.
pub fn set_password(role: &str, options: &str, password: &str) -> String {
    let verifier = scram_sha_256(password.as_bytes());
    let (role, verifier) = (escape_identifier(role), escape_literal(&verifier));
    format!("alter role {role} login {options} password {verifier}")
}

/// A login that `cloison init` makes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Login {
    /// The role.
    pub role: String,
    /// What it is for; `None` for the proxy's own.
    pub access: Option<Access>,
}

/// Whose a role is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Found {
    /// There is none of this name.
    Nothing,
    /// It has our mark, for this database and this purpose.
    Ours,
    /// It is somebody else's.
    Foreign,
}

impl Login {
    /// The group whose rights it has.
    pub const fn group(&self) -> &'static str {
        match self.access {
            Some(Access::Superadmin) => "cloison_superadmin",
            Some(Access::Tenant | Access::Owner) => "cloison_tenant",
            None => "cloison_control",
        }
    }

    /// What it is for, in a few words.
    pub const fn purpose(&self) -> &'static str {
        match self.access {
            Some(Access::Superadmin) => "sessions of super-admins",
            Some(Access::Tenant | Access::Owner) => "sessions of tenants",
            None => "the proxy's own connection",
        }
    }

    /// The comment on the role by which it is known as ours: roles belong to the server, and
    /// another database may want the same name.
    fn mark(&self, database: &str) -> String {
        format!("made by cloison init for {} in the database {database}", self.purpose())
    }

    /// Looks whether the role is there, and whose it is.
    ///
    /// # Errors
    ///
    /// Fails as the connection does.
    pub async fn find(&self, client: &Client, database: &str) -> Result<Found, Error> {
        let row = client.query_opt(FIND, &[&self.role]).await?;
        let Some(row) = row else { return Ok(Found::Nothing) };
        let comment: Option<String> = row.try_get(0)?;
        let is_ours = comment.is_some_and(|comment| comment == self.mark(database));
        Ok(if is_ours { Found::Ours } else { Found::Foreign })
    }

    /// Makes the role and marks it, unless it is there, and sets its password.
    ///
    /// # Errors
    ///
    /// The connected role may not do so.
    pub async fn make(
        &self,
        client: &Client,
        database: &str,
        found: Found,
        password: &Secret<String>,
    ) -> Result<(), Error> {
        let role = escape_identifier(&self.role);
        if found == Found::Nothing {
            let mark = escape_literal(&self.mark(database));
            let make = format!("create role {role}; comment on role {role} is {mark}");
            client.batch_execute(&make).await?;
        }
        client.batch_execute(&set_password(&self.role, "", password.expose())).await?;
        // Granting twice is a notice on some versions.
        let grant = format!(
            "set client_min_messages = warning; grant {} to {role}; reset client_min_messages",
            self.group()
        );
        client.batch_execute(&grant).await
    }
}

const FIND: &str = "
    select pg_catalog.shobj_description(r.oid, 'pg_authid')
    from pg_catalog.pg_roles r
    where r.rolname = $1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_itself_is_not_in_the_statement() {
        let password = random_password();
        assert_eq!(password.expose().len(), 64);
        assert_ne!(password.expose(), random_password().expose());
        let sql = set_password("we\"ird", "createrole", password.expose());
        assert!(sql.starts_with(
            "alter role \"we\"\"ird\" login createrole password 'SCRAM-SHA-256$4096:"
        ));
        assert!(!sql.contains(password.expose().as_str()));
    }
}
