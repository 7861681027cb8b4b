//! What a role lacks that installs the kit and makes logins.

use tokio_postgres::{Client, Error};

/// What the connected role may do in this database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rights {
    /// The role.
    pub user: String,
    /// The database.
    pub database: String,
    /// The role that owns the database.
    pub owner: String,
    /// True for a superuser, who may do everything.
    pub is_superuser: bool,
    /// True for the database's owner and for members of that role.
    pub owns_database: bool,
    /// True with CREATEROLE.
    pub makes_roles: bool,
}

impl Rights {
    /// Asks the server.
    ///
    /// # Errors
    ///
    /// Fails as the connection does.
    pub async fn read(client: &Client) -> Result<Self, Error> {
        let row = client.query_one(RIGHTS, &[]).await?;
        Ok(Self {
            user: row.try_get("user")?,
            database: row.try_get("database")?,
            owner: row.try_get("owner")?,
            is_superuser: row.try_get("superuser")?,
            owns_database: row.try_get("owns")?,
            makes_roles: row.try_get("makes")?,
        })
    }

    /// Names what is missing and who has it; nothing if nothing is.
    pub fn missing(&self) -> Option<String> {
        let Self { user, database, owner, .. } = self;
        let owns = (!self.owns_database)
            .then(|| format!("does not own the database {database} (its owner is {owner})"));
        let makes = (!self.makes_roles).then(|| "has no CREATEROLE".to_owned());
        let missing: Vec<String> = owns.into_iter().chain(makes).collect();
        (!self.is_superuser && !missing.is_empty()).then(|| {
            format!(
                "run this as the owner of the database, a role with CREATEROLE: \
                 role {user} {}",
                missing.join(", and ")
            )
        })
    }
}

const RIGHTS: &str = "
    select
        session_user::text as user,
        d.datname::text as database,
        pg_catalog.pg_get_userbyid(d.datdba)::text as owner,
        r.rolsuper as superuser,
        pg_catalog.pg_has_role(d.datdba, 'usage') as owns,
        r.rolcreaterole as makes
    from
        pg_catalog.pg_database d,
        pg_catalog.pg_roles r
    where
        d.datname = pg_catalog.current_database()
        and r.rolname = current_user";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let all = Rights {
            user: "app".into(),
            database: "shop".into(),
            owner: "boss".into(),
            is_superuser: false,
            owns_database: true,
            makes_roles: true,
        };
        assert_eq!(all.missing(), None);
        let neither = Rights { owns_database: false, makes_roles: false, ..all.clone() };
        assert_eq!(
            neither.missing().as_deref(),
            Some(
                "run this as the owner of the database, a role with CREATEROLE: role app does not \
                 own the database shop (its owner is boss), and has no CREATEROLE"
            )
        );
        assert_eq!(Rights { is_superuser: true, ..neither }.missing(), None);
        let alone = Rights { makes_roles: false, ..all };
        assert!(alone.missing().is_some_and(|text| text.ends_with("role app has no CREATEROLE")));
    }
}
