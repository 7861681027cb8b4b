//! The proxy's configuration for a database that `setup` has prepared.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use super::setup::Database;
use super::{AUDIENCE, ISSUER, OWNER_AUDIENCE, SUPERADMIN_AUDIENCE};
use crate::config::{self, Config, ServerAddress};
use crate::dev::logins::{Login, Logins};

/// What people may choose.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Where to listen.
    pub listen: SocketAddr,
    /// When a server connection goes back to the pool, in the configuration's word.
    pub pool_mode: Option<String>,
    /// Whether tenants' statements are held to a list, in the configuration's word.
    pub statement_filter: Option<String>,
    /// Most server connections of each pool.
    pub pool_size: Option<usize>,
}

impl Wishes {
    /// Checks the wishes before any work is done for them: against a database that is none.
    ///
    /// # Errors
    ///
    /// A wish that the proxy cannot fulfil.
    pub fn check(&self) -> Result<(), config::Errors> {
        let login = |user: &str| Login { user: user.to_owned(), password: None };
        let logins = Logins {
            tenant: login("tenant"),
            superadmin: login("superadmin"),
            control: login("control"),
            owner: login("owner"),
        };
        let database = Database {
            address: ServerAddress::Tcp("localhost".to_owned(), 5432),
            name: "app".to_owned(),
            tls_mode: "disable",
        };
        // The key set is not looked into before tokens are: any file that is there will do.
        match std::env::current_exe() {
            Ok(some_file) => proxy_config(&database, &logins, &some_file, self).map(drop),
            Err(_) => Ok(()),
        }
    }
}

/// The configuration to serve `database` with, for tokens by the keys in the file `jwks`.
///
/// It is written as a file would be, so that it passes the same checks and gets the same defaults.
///
/// # Errors
///
/// A wish that the proxy cannot fulfil.
pub fn proxy_config(
    database: &Database,
    logins: &Logins,
    jwks: &Path,
    wishes: &Wishes,
) -> Result<Config, config::Errors> {
    let (host, port) = match &database.address {
        ServerAddress::Tcp(host, port) => (host.clone(), port),
        ServerAddress::Unix(folder, port) => (folder.to_string_lossy().into_owned(), port),
    };
    let issuer = |access: &str, audience: &str| {
        json!({
            "access": access,
            "issuer": ISSUER,
            "audience": audience,
            "algorithms": ["ES256"],
            "jwks_file": jwks,
            "tenant_lookup": ["id", "slug", "external_key"],
        })
    };
    let mut text = json!({
        "listen_addr": [wishes.listen.ip()],
        "listen_port": wishes.listen.port(),
        "server_tls_sslmode": database.tls_mode,
        "server": { "host": host, "port": port, "database": database.name },
        "control": login(&logins.control),
        "pools": {
            "tenant": login(&logins.tenant),
            "superadmin": login(&logins.superadmin),
            "owner": login(&logins.owner),
        },
        "issuers": {
            "dev": issuer("tenant", AUDIENCE),
            "dev_superadmin": issuer("superadmin", SUPERADMIN_AUDIENCE),
            "dev_owner": issuer("owner", OWNER_AUDIENCE),
        },
    });
    text["issuers"]["dev"]["tenants_claim"] = json!("tenants");
    if let Some(mode) = &wishes.pool_mode {
        text["pool_mode"] = json!(mode);
    }
    if let Some(filter) = &wishes.statement_filter {
        text["statement_filter"] = json!(filter);
    }
    if let Some(size) = wishes.pool_size {
        text["default_pool_size"] = json!(size);
    }
    let text = toml::to_string(&text).unwrap_or_default();
    config::parse(&text, std::iter::empty())
}

fn login(login: &Login) -> serde_json::Value {
    match &login.password {
        Some(password) => json!({ "user": login.user, "password": password.expose() }),
        None => json!({ "user": login.user }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::PoolMode;
    use crate::types::{Access, Secret};

    fn config(wishes: &Wishes) -> Result<Config, String> {
        let folder = std::env::temp_dir().join(format!("cloison-proxy-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        let jwks = folder.join("jwks.json");
        fs::write(&jwks, r#"{"keys":[]}"#).unwrap();
        let login = |user: &str| Login {
            user: user.to_owned(),
            password: Some(Secret::new(format!("of \"{user}\""))),
        };
        let logins = Logins {
            tenant: login("t"),
            superadmin: login("s"),
            control: login("c"),
            owner: login("o"),
        };
        let database = Database {
            address: ServerAddress::Tcp("db.example".to_owned(), 5433),
            name: "app".to_owned(),
            tls_mode: "disable",
        };
        let config = proxy_config(&database, &logins, &jwks, wishes);
        fs::remove_dir_all(folder).unwrap();
        config.map_err(|errors| errors.to_string())
    }

    fn wishes() -> Wishes {
        Wishes {
            listen: ([127, 0, 0, 1], 6432).into(),
            pool_mode: None,
            statement_filter: None,
            pool_size: None,
        }
    }

    #[test]
    fn each_road_has_its_login_and_its_audience() {
        let config = config(&wishes()).unwrap();
        for (access, user, audience) in [
            (Access::Tenant, "t", AUDIENCE),
            (Access::Superadmin, "s", SUPERADMIN_AUDIENCE),
            (Access::Owner, "o", OWNER_AUDIENCE),
        ] {
            let login = &config.pools[&access].login;
            assert_eq!(login.user, user);
            let password = login.password.as_ref().map(|password| password.expose().clone());
            assert_eq!(password.unwrap(), format!("of \"{user}\""));
            let issuer = config.issuers.iter().find(|issuer| issuer.access == access).unwrap();
            assert_eq!((&*issuer.issuer, &*issuer.audiences), (ISSUER, &[audience.to_owned()][..]));
        }
        assert_eq!(config.server.address, ServerAddress::Tcp("db.example".to_owned(), 5433));
        assert_eq!(config.control.user, "c");
        assert_eq!(config.listen.port, 6432);
    }

    #[test]
    fn wishes_are_fulfilled_or_refused_by_name() {
        let sized = config(&Wishes { pool_size: Some(3), ..wishes() }).unwrap();
        assert_eq!(sized.pools[&Access::Tenant].size, 3);
        let session = Wishes { pool_mode: Some("session".to_owned()), ..wishes() };
        assert_eq!(config(&session).unwrap().pools[&Access::Tenant].mode, PoolMode::Session);
        let wrong = config(&Wishes { pool_mode: Some("sometimes".to_owned()), ..wishes() });
        assert!(wrong.unwrap_err().contains("pool_mode"));
    }
}
