//! The files that `cloison init` writes.

use std::fmt::Write as _;
use std::path::Path;

use toml::Value;

use super::choices::{Choices, Tokens};
use crate::config::{Config, ServerTlsMode};
use crate::types::{Access, Secret};

/// How the proxy gets to Postgres, in the configuration's words.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// A host name or address, or the folder of a Unix socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) tls_mode: ServerTlsMode,
    pub(super) ca_file: Option<String>,
}

/// A role to log in as, and its password if Postgres asks for one.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// What its sessions may do; `None` for the proxy's own.
    pub(super) access: Option<Access>,
    pub(super) role: String,
    pub(super) password: Option<Secret<String>>,
}

impl Account {
    /// The variable that holds its password.
    pub(super) fn variable(&self) -> String {
        match self.access {
            Some(access) => format!("CLOISON_POOLS_{}_PASSWORD", access.as_str().to_uppercase()),
            None => "CLOISON_CONTROL_PASSWORD".to_owned(),
        }
    }

    fn section(&self) -> String {
        self.access.map_or("control".to_owned(), |access| format!("pools.{access}"))
    }

    const fn about(&self) -> &'static str {
        match self.access {
            None => {
                "The proxy's own role: it reads the signing key and the tenants, and writes the\n\
                 # audit log. It sees no tenant's rows."
            }
            Some(Access::Tenant) => {
                "The role of all tenants' sessions. It owns nothing; the policies decide what a\n\
                 # session sees, by the tenant that its token names."
            }
            Some(Access::Superadmin) => {
                "The role of super-admins' sessions: clients that connect as cloison_superadmin."
            }
            Some(Access::Owner) => {
                "Migrations through the proxy: clients that connect as cloison_owner. This is the\n\
                 # role that cloison init was run as."
            }
        }
    }
}

/// The configuration, explained. `secret_line` says where the secret is, if there is one.
pub(super) fn configuration(
    server: &Server,
    accounts: &[Account],
    choices: &Choices,
    secret_line: &str,
) -> String {
    let mut page = format!(
        "# Cloison's configuration for the database {}, written by `cloison init`.\n\
         # `cloison check --keys` prints every key with its meaning and default.\n\
         # The passwords are not in here: they are in cloison.env beside this file.\n",
        one_line(&server.database)
    );
    listen(&mut page, choices);
    let mode = choices.pool_mode.as_str();
    put(&mut page, POOL_MODE, &[("pool_mode", mode.into())]);
    upstream(&mut page, server);
    for account in accounts {
        let about = match account.password {
            Some(_) => format!("{}\n# Its password: {}.", account.about(), account.variable()),
            None => format!("{}\n# Postgres asks for no password.", account.about()),
        };
        section(&mut page, &about, &account.section());
        line(&mut page, "user", &account.role.as_str().into());
    }
    for access in accounts.iter().filter_map(|account| account.access) {
        issuer(&mut page, access, choices, secret_line);
    }
    page
}

fn listen(page: &mut String, choices: &Choices) {
    let about = "Where clients connect. 127.0.0.1 is this machine alone, \"*\" is every address.";
    let word = choices.listen.word();
    let port = i64::from(choices.listen.port);
    put(page, about, &[("listen_addr", word.into()), ("listen_port", port.into())]);
    match &choices.tls {
        None => put(page, NO_TLS, &[("client_tls_sslmode", "disable".into())]),
        Some((certificate, key)) => put(
            page,
            TLS,
            &[
                ("client_tls_sslmode", "require".into()),
                ("client_tls_cert_file", certificate.display().to_string().into()),
                ("client_tls_key_file", key.display().to_string().into()),
            ],
        ),
    }
}

fn upstream(page: &mut String, server: &Server) {
    let mut keys = vec![("server_tls_sslmode", server.tls_mode.as_str().into())];
    if let (Some(file), ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull) =
        (&server.ca_file, server.tls_mode)
    {
        keys.push(("server_tls_ca_file", file.as_str().into()));
    }
    put(page, SERVER_TLS, &keys);
    section(page, "The database behind the proxy.", "server");
    line(page, "host", &server.host.as_str().into());
    line(page, "port", &i64::from(server.port).into());
    line(page, "database", &server.database.as_str().into());
}

fn issuer(page: &mut String, access: Access, choices: &Choices, secret_line: &str) {
    let about = match access {
        Access::Tenant => "Which tokens are accepted as a tenant's.",
        Access::Superadmin => "Which tokens are accepted as a super-admin's: of another audience.",
        Access::Owner => "Which tokens are accepted as the owner's: of another audience.",
    };
    let name = issuer_name(access);
    section(page, about, &format!("issuers.{name}"));
    line(page, "access", &access.as_str().into());
    if let Tokens::Provider(provider) = &choices.tokens {
        put(page, PROVIDER, &[("provider", provider.as_str().into())]);
    }
    put(page, "The exact iss claim.", &[("issuer", choices.issuer.as_str().into())]);
    let audience = audience_of(access, choices);
    put(page, "What the aud claim has to contain.", &[("audience", audience.into())]);
    match &choices.tokens {
        Tokens::Secret => {
            put(page, SECRET, &[("algorithms", list(&["HS256".to_owned()]))]);
            page.push_str(secret_line);
            page.push('\n');
        }
        Tokens::Provider(_) => put(page, DISCOVERY, &[("discovery", true.into())]),
        Tokens::Jwks(url) => {
            let keys =
                [("algorithms", list(&choices.algorithms)), ("jwks_url", url.as_str().into())];
            put(page, "Signatures that are accepted, and where the keys are.", &keys);
        }
    }
    if access == Access::Tenant {
        tenant(page, choices);
    }
}

fn tenant(page: &mut String, choices: &Choices) {
    let is_preset = matches!(choices.tokens, Tokens::Provider(_));
    if choices.tenant_claim.is_some() || !is_preset {
        let claim = choices.tenant_claim.as_deref().unwrap_or("tenant_id");
        put(page, "The claim that names the tenant.", &[("tenant_claim", claim.into())]);
    }
    if !is_preset {
        let names = list(&["id".to_owned(), "slug".to_owned()]);
        put(page, LOOKUP, &[("tenant_lookup", names)]);
    }
}

/// The rule's name in the configuration.
pub(super) const fn issuer_name(access: Access) -> &'static str {
    match access {
        Access::Tenant => "app",
        Access::Superadmin => "app_superadmin",
        Access::Owner => "app_owner",
    }
}

/// The audience of tokens for this access.
pub(super) fn audience_of(access: Access, choices: &Choices) -> String {
    match access {
        Access::Tenant => choices.audience.clone(),
        Access::Superadmin | Access::Owner => format!("{}-{access}", choices.audience),
    }
}

/// The line that names the secret's file.
pub(super) fn secret_file(path: &Path) -> String {
    format!("secret_file = {}", Value::from(path.display().to_string()))
}

/// The environment file with these passwords: what else is in it stays.
pub(super) fn environment(before: Option<&str>, accounts: &[Account]) -> String {
    let mut lines: Vec<String> = match before {
        Some(text) => text.lines().map(str::to_owned).collect(),
        None => ENVIRONMENT.lines().map(str::to_owned).collect(),
    };
    for account in accounts {
        let Some(password) = &account.password else { continue };
        let start = format!("{}=", account.variable());
        lines.retain(|line| !line.starts_with(&start));
        lines.push(format!("{start}{}", quoted(password.expose())));
    }
    lines.join("\n") + "\n"
}

/// A value as systemd, shells and we read it. Our own passwords need no quotes.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    let escaped: String = value
        .chars()
        .flat_map(|c| "\\\"$`".contains(c).then_some('\\').into_iter().chain([c]))
        .collect();
    format!("\"{escaped}\"")
}

/// The accounts that a configuration names, without passwords, and without the owner's, which
/// nobody made here.
pub(super) fn accounts_of(config: &Config) -> Vec<Account> {
    let account = |access, role: &str| Account { access, role: role.to_owned(), password: None };
    let pools = config.pools.iter().filter(|(access, _)| **access != Access::Owner);
    let pools = pools.map(|(access, pool)| account(Some(*access), &pool.login.user));
    std::iter::once(account(None, &config.control.user)).chain(pools).collect()
}

fn section(page: &mut String, about: &str, name: &str) {
    // Writing into a String cannot fail.
    let _ = write!(page, "\n# {about}\n[{name}]\n");
}

fn put(page: &mut String, about: &str, keys: &[(&str, Value)]) {
    let _ = write!(page, "\n# {about}\n");
    for (key, value) in keys {
        line(page, key, value);
    }
}

fn line(page: &mut String, key: &str, value: &Value) {
    let _ = writeln!(page, "{key} = {value}");
}

fn list(items: &[String]) -> Value {
    Value::Array(items.iter().map(|item| item.as_str().into()).collect())
}

/// For a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

const NO_TLS: &str = "\
TLS towards clients. Tokens cross a network under TLS only: before clients of other machines\n\
# connect, set \"require\" and name client_tls_cert_file and client_tls_key_file.";

const TLS: &str = "TLS towards clients: a must. The chain has the server's certificate first.";

const POOL_MODE: &str = "\
\"session\": a client keeps its server connection until it leaves. \"transaction\": it has one for\n\
# each transaction, so that few connections serve many clients.";

const SERVER_TLS: &str = "\
TLS towards Postgres. \"prefer\" checks no certificate; \"verify-full\" checks it and its name,\n\
# which is what to use across a network.";

const PROVIDER: &str = "\
Fills in the algorithms, the tenant's claim and how it is looked up: docs/providers.md.";

const SECRET: &str = "\
The application signs tokens with this secret: the text of the file, without its last newline.\n\
# Anybody who has it can be any tenant.";

const DISCOVERY: &str =
    "Where the keys are: in the issuer's own document, .well-known/openid-configuration.";

const LOOKUP: &str = "What the claim holds, in this order: a column of cloison.tenants.";

const ENVIRONMENT: &str = "\
# Passwords of the proxy's roles, written by `cloison init`. Anybody who reads this file can log in\n\
# to the database as the proxy. For `cloison serve --env-file`, and for systemd's EnvironmentFile.";

#[cfg(test)]
mod tests {
    use super::super::choices::Answers;
    use super::*;
    use crate::config;

    fn account(access: Option<Access>, role: &str) -> Account {
        Account { access, role: role.to_owned(), password: Some(Secret::new("a'b\"$c".to_owned())) }
    }

    fn accounts() -> Vec<Account> {
        let access = [None, Some(Access::Tenant), Some(Access::Superadmin), Some(Access::Owner)];
        access.map(|access| account(access, &format!("role of \"{access:?}\""))).into()
    }

    fn server() -> Server {
        Server {
            host: "db.example".to_owned(),
            port: 5433,
            database: "my \"shop\"".to_owned(),
            tls_mode: ServerTlsMode::VerifyFull,
            ca_file: None,
        }
    }

    #[test]
    fn every_choice_makes_a_configuration_that_passes() {
        let secret = "secret = \"0123456789abcdef0123456789abcdef\"";
        let url = |text: &str| Some(text.to_owned());
        for (tokens, issuer, audience) in [
            (None, None, None),
            (Some("keycloak"), url("https://id.example/realms/shop"), url("shop")),
            (Some("auth0"), url("https://shop.eu.auth0.com/"), url("https://api.shop.example")),
            (Some("https://id.example/jwks.json"), url("https://id.example"), url("shop")),
        ] {
            let answers = Answers {
                tokens: tokens.map(|word: &str| word.parse().unwrap()),
                issuer,
                audience,
                ..Answers::default()
            };
            let choices = Choices::new(answers, "shop").unwrap();
            let text = configuration(&server(), &accounts(), &choices, secret);
            let config = config::parse(&text, std::iter::empty())
                .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
            assert_eq!(config.server.database, "my \"shop\"");
            assert_eq!(config.control.user, "role of \"None\"");
            assert_eq!((config.pools.len(), config.issuers.len()), (3, 3));
            // Every key stands below a comment.
            for block in text.split("\n\n") {
                assert!(block.starts_with('#'), "{block}");
            }
        }
    }

    #[test]
    fn the_environment_file_keeps_what_is_not_ours() {
        let before = "# mine\nRUST_LOG=info\nCLOISON_CONTROL_PASSWORD=old\nX=1";
        let after = environment(Some(before), &accounts()[..1]);
        assert_eq!(after, "# mine\nRUST_LOG=info\nX=1\nCLOISON_CONTROL_PASSWORD=\"a'b\\\"\\$c\"\n");
        assert!(environment(None, &accounts()).contains("\nCLOISON_POOLS_SUPERADMIN_PASSWORD="));
    }
}
