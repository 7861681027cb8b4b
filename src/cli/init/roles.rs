//! The roles of the proxy, a first tenant, and everybody's right to create: one transaction.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error as Postgres};

use super::text::Account;
use super::{Error, ONLY_KIT, stopped};
use crate::cli::database;
use crate::kit::logins::{Found, Login};
use crate::kit::rights::Rights;

/// What became of everybody's right to create in the schema public.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Public {
    /// Nobody had it, as on Postgres 15 and newer.
    Closed,
    /// It was taken.
    Revoked,
    /// The connected role may not take it.
    Open,
}

/// Makes roles and tenant in one transaction.
pub(super) async fn make(
    client: &Client,
    rights: &Rights,
    logins: &[(Login, Found)],
    accounts: &[Account],
    tenant: Option<&str>,
) -> Result<Public, Error> {
    let begun = client.batch_execute("begin").await;
    begun.map_err(stopped("make the roles", ONLY_KIT))?;
    for ((login, found), account) in logins.iter().zip(accounts) {
        let Some(password) = &account.password else { continue };
        login.make(client, &rights.database, *found, password).await.map_err(|error| {
            Error::Stopped {
                doing: "make the roles",
                why: explained(login, logins, &rights.user, &error),
                done: ONLY_KIT,
            }
        })?;
    }
    if let Some(slug) = tenant {
        let made = client.execute(TENANT, &[&slug]).await;
        made.map_err(stopped("make the tenant", ONLY_KIT))?;
    }
    let public = close_public(client).await;
    let public = public.map_err(stopped("close the schema public", ONLY_KIT))?;
    client.batch_execute("commit").await.map_err(stopped("make the roles", ONLY_KIT))?;
    Ok(public)
}

/// Takes from everybody the right to create in the schema public.
async fn close_public(client: &Client) -> Result<Public, Postgres> {
    let is_open = async || client.query_one(IS_OPEN, &[]).await?.try_get::<_, bool>(0);
    if !is_open().await? {
        return Ok(Public::Closed);
    }
    client.batch_execute("savepoint public; set local client_min_messages = error").await?;
    if client.batch_execute("revoke create on schema public from public").await.is_err() {
        client.batch_execute("rollback to savepoint public").await?;
    }
    Ok(if is_open().await? { Public::Open } else { Public::Revoked })
}

/// Roles belong to the server: another database's owner may have made the groups.
fn explained(login: &Login, logins: &[(Login, Found)], user: &str, error: &Postgres) -> String {
    let why = database::told(error);
    let is_denied = error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE);
    if !is_denied || !why.contains(login.group()) {
        return format!("{why} (role {})", login.role);
    }
    let groups: Vec<&str> = logins.iter().map(|(login, _)| login.group()).collect();
    format!(
        "{why} (role {}). Another role has made the kit's groups, and from Postgres 16 on it alone \
         gives them to others. As a superuser: grant {} to {} with admin true, inherit false, \
         set false",
        login.role,
        groups.join(", "),
        escape_identifier(user)
    )
}

const TENANT: &str = "
    insert into cloison.tenants (name, slug) values ($1, $1) on conflict (slug) do nothing";

const IS_OPEN: &str = "
    select exists (
        select
        from
            pg_catalog.pg_namespace n,
            pg_catalog.aclexplode(
                coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
        where
            n.nspname = 'public' and a.grantee = 0 and a.privilege_type = 'CREATE'
    )";
