//! How the proxy logs in to Postgres: its own role, and one role a pool.

use std::collections::BTreeMap;

use crate::types::{Access, Secret};

use super::reader::{Reader, Section};
use super::{Login, Pool, PoolMode, TlsIdentity};

/// Most server connections of one pool: more than any Postgres takes.
const LARGEST_POOL: i64 = 100_000;

/// What every pool takes unless its section says otherwise.
pub(super) struct Defaults {
    pub(super) identity: Option<TlsIdentity>,
    pub(super) mode: PoolMode,
    pub(super) size: usize,
}

impl Defaults {
    /// Reads the keys outside every section.
    pub(super) fn read(top: &Section<'_>) -> Self {
        Self {
            identity: identity(top, "server_tls_cert_file", "server_tls_key_file"),
            mode: pool_mode(top).unwrap_or(PoolMode::Session),
            size: pool_size(top, "default_pool_size").unwrap_or_default(),
        }
    }
}

/// The proxy's own login.
pub(super) fn control(reader: &Reader, defaults: &Defaults) -> Login {
    let section = reader.section("control");
    section.require("user", "the proxy's own role, a member of cloison_control");
    login(&section, defaults.identity.clone())
}

/// The pools of all roads that the configuration opens.
pub(super) fn pools(
    reader: &Reader,
    defaults: &Defaults,
    control: &Login,
) -> BTreeMap<Access, Pool> {
    let mut pools = BTreeMap::new();
    for access in Access::ALL {
        let section = reader.section(&format!("pools.{access}"));
        if access == Access::Tenant || section.is_present() {
            section.require("user", "the role that sessions of this pool run as");
            pools.insert(access, pool(&section, access, defaults));
        }
    }
    refuse_shared_roles(reader, control, &pools);
    refuse_shared_client_users(reader, &pools);
    pools
}

/// A certificate and its key: both or none.
pub(super) fn identity(section: &Section<'_>, certificate: &str, key: &str) -> Option<TlsIdentity> {
    for (given, missing) in [(certificate, key), (key, certificate)] {
        if section.has(given) && !section.has(missing) {
            let missing = section.path_of(missing);
            section.refuse(given, format!("needs {missing} beside it"));
        }
    }
    let (certificate_file, key_file) = (section.file(certificate), section.private_file(key));
    Some(TlsIdentity { certificate_file: certificate_file?, key_file: key_file? })
}

fn pool(section: &Section<'_>, access: Access, defaults: &Defaults) -> Pool {
    let identity = identity(section, "tls_cert_file", "tls_key_file");
    let client_user = match access {
        Access::Tenant => None,
        Access::Superadmin | Access::Owner => {
            let default = || format!("cloison_{access}");
            Some(section.optional_text("client_user").unwrap_or_else(default))
        }
    };
    Pool {
        login: login(section, identity.or_else(|| defaults.identity.clone())),
        // Super-admins and the owner do what needs a session: a mode, migrations, dumps.
        mode: pool_mode(section).unwrap_or(match access {
            Access::Tenant => defaults.mode,
            Access::Superadmin | Access::Owner => PoolMode::Session,
        }),
        size: pool_size(section, "pool_size").unwrap_or(defaults.size),
        client_user,
    }
}

fn login(section: &Section<'_>, identity: Option<TlsIdentity>) -> Login {
    let password = section.secret("password").and_then(|bytes| {
        let text = String::from_utf8(bytes.expose().clone()).ok();
        if text.is_none() {
            section.refuse("password_file", "the file does not hold UTF-8 text");
        }
        text.map(Secret::new)
    });
    Login { user: section.text("user"), password, identity }
}

fn pool_size(section: &Section<'_>, key: &str) -> Option<usize> {
    section.number(key, 1..=LARGEST_POOL)
}

fn pool_mode(section: &Section<'_>) -> Option<PoolMode> {
    let mode = section.read("pool_mode", "session or transaction", |value| {
        value
            .as_str()
            .filter(|mode| ["session", "transaction", "statement"].contains(mode))
            .map(str::to_owned)
    })?;
    match mode.as_str() {
        "transaction" => return Some(PoolMode::Transaction),
        "statement" => section.refuse(
            "pool_mode",
            "there will be no statement pooling, because it breaks transactions: expected session or transaction",
        ),
        _ => {}
    }
    Some(PoolMode::Session)
}

/// What one role may do the other must not, so no two logins share one.
fn refuse_shared_roles(reader: &Reader, control: &Login, pools: &BTreeMap<Access, Pool>) {
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    taken.insert(&control.user, "control".to_owned());
    for (access, pool) in pools {
        let user = pool.login.user.as_str();
        match taken.get(user) {
            // Absent, which was said already.
            _ if user.is_empty() => {}
            Some(other) => reader.section(&format!("pools.{access}")).refuse(
                "user",
                format!("this is the role of [{other}]: every pool and [control] need one each"),
            ),
            None => {
                taken.insert(user, format!("pools.{access}"));
            }
        }
    }
}

fn refuse_shared_client_users(reader: &Reader, pools: &BTreeMap<Access, Pool>) {
    let user = |access| pools.get(&access).and_then(|pool: &Pool| pool.client_user.as_ref());
    let (Some(superadmin), Some(owner)) = (user(Access::Superadmin), user(Access::Owner)) else {
        return;
    };
    if superadmin == owner {
        let problem = "this is the client_user of [pools.superadmin] too: clients could not choose";
        reader.section("pools.owner").refuse("client_user", problem);
    }
}
