//! Postgres: the proxy's own connection, the kit, every pool's login and role, the lints.

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::{Check, Looked, Stops, in_one_line};
use crate::backend::{self, Control, ControlError, Target};
use crate::cli::database;
use crate::cli::serve::watch::{Standing, Watch};
use crate::config::{Config, LintAction, ServerAddress};
use crate::kit::lint::Finding;
use crate::kit::migrate::KIT_VERSION;
use crate::pool;
use crate::tenant::{self, Directory};
use crate::types::Access;

/// Looks at one thing after the other; what a missing one makes senseless is not tried.
pub(super) async fn look(config: &Config, home: &Handle) -> Looked {
    let mut looked = Looked { checks: Vec::new(), directory: None, watch: None };
    let place = place(config);
    let here = format!("{place} as {}", config.control.user);
    let check = Check::good("postgres", here.clone());
    let timeout = config.limits.server_connect_timeout;
    let target = match Target::new(&config.server, &config.control, timeout, config.keepalive) {
        Ok(target) => target,
        Err(error) => {
            looked.checks.push(check.fails(Stops::Start, in_one_line(&error), TLS));
            return looked;
        }
    };
    let control = Control::listening(target).at(home.clone());
    let client = match control.client().await {
        Ok(client) => client,
        Err(error) => {
            looked.checks.push(not_connected(check, &error));
            rest_not_tried(config, &mut looked);
            return looked;
        }
    };
    match version(&client).await {
        Ok(version) => {
            looked.checks.push(Check { value: format!("{version} at {here}"), ..check });
        }
        Err(error) => looked.checks.push(check.fails(Stops::Waiting, error.to_string(), AWAY)),
    }
    let kit = kit(&client, config).await;
    let is_there = kit.stops(Stops::Start).is_none() && kit.stops(Stops::Waiting).is_none();
    looked.checks.push(kit);
    if !is_there {
        rest_not_tried(config, &mut looked);
        return looked;
    }
    match Directory::open(control).await {
        Ok(directory) => {
            looked.checks.push(Check::good("control role", &config.control.user));
            with(&directory, config, &mut looked).await;
            looked.directory = Some(directory);
        }
        Err(error) => {
            let check = Check::good("control role", &config.control.user);
            looked.checks.push(not_asked(check, &error, &control_cure(config)));
            rest_not_tried(config, &mut looked);
        }
    }
    looked
}

/// What is asked through the proxy's own connection, and the pools' logins.
async fn with(directory: &Directory, config: &Config, looked: &mut Looked) {
    if config.api_keys {
        let check = Check::good("api keys", "cloison.find_api_key()");
        looked.checks.push(match directory.demand_api_keys().await {
            Ok(()) => check,
            Err(error) => not_asked(check, &error, INSTALL),
        });
    }
    for (&access, pool) in &config.pools {
        let check =
            Check::good(format!("pool {access}"), format!("logs in as {}", pool.login.user));
        looked.checks.push(login(check, config, access).await);
        if access != Access::Owner {
            looked.checks.extend(role(directory, &pool.login.user, access).await);
        }
    }
    // The same login worked a moment ago.
    let Ok(watch) = Watch::new(config) else { return };
    let found = watch.look().await;
    looked.checks.extend(lint(&found, config.lint.action));
    looked.watch = Some((watch, found));
}

fn rest_not_tried(config: &Config, looked: &mut Looked) {
    for (access, pool) in &config.pools {
        let subject = format!("pool {access}");
        looked.checks.push(Check::not_tried(subject, format!("logs in as {}", pool.login.user)));
    }
    looked.checks.push(Check::not_tried("lint", "critical findings"));
}

/// Where Postgres is.
pub(super) fn place(config: &Config) -> String {
    let server = &config.server;
    let address = match &server.address {
        ServerAddress::Tcp(host, port) => format!("{host}:{port}"),
        ServerAddress::Unix(folder, port) => format!("{}/.s.PGSQL.{port}", folder.display()),
    };
    format!("{address}, database {}", server.database)
}

fn not_connected(check: Check, error: &ControlError) -> Check {
    let cause = in_one_line(error);
    if error.is_away() {
        return check.fails(Stops::Waiting, cause, AWAY);
    }
    let cure = match error {
        ControlError::Connect(error) => login_cure(error, "control", "CLOISON_CONTROL_PASSWORD"),
        ControlError::Login(error) => {
            let sqlstate = error.code().map(tokio_postgres::error::SqlState::code);
            refused_cure(sqlstate.unwrap_or_default(), "control", "CLOISON_CONTROL_PASSWORD")
        }
        ControlError::Ending => AWAY.to_owned(),
    };
    check.fails(Stops::Start, cause, cure)
}

fn not_asked(check: Check, error: &tenant::Error, cure: &str) -> Check {
    let stops = if error.is_away() { Stops::Waiting } else { Stops::Start };
    check.fails(stops, in_one_line(error), cure)
}

async fn version(client: &Client) -> Result<String, tokio_postgres::Error> {
    let row = client.query_one("select pg_catalog.current_setting('server_version')", &[]).await?;
    let version: String = row.try_get(0)?;
    Ok(format!("Postgres {}", version.split(' ').next().unwrap_or_default()))
}

async fn kit(client: &Client, config: &Config) -> Check {
    let check = Check::good("kit", format!("version {KIT_VERSION} is needed"));
    let asked = async {
        if !client.query_one(KIT_IS_THERE, &[]).await?.try_get::<_, bool>(0)? {
            return Ok::<_, tokio_postgres::Error>(None);
        }
        client.query_one("select cloison.kit_version()", &[]).await?.try_get(0).map(Some)
    };
    match asked.await {
        Ok(Some(KIT_VERSION)) => Check { value: format!("version {KIT_VERSION}"), ..check },
        Ok(Some(version)) if version > KIT_VERSION => {
            let cause =
                format!("the database has version {version}, which is newer than this program");
            check.warns(cause, "update this program")
        }
        Ok(Some(version)) => {
            check.fails(Stops::Start, format!("the database has version {version}"), INSTALL)
        }
        Ok(None) => {
            let cause = format!("there is no kit in the database {}", config.server.database);
            check.fails(Stops::Start, cause, INSTALL)
        }
        Err(error) if backend::is_away(&error) => {
            check.fails(Stops::Waiting, database::told(&error), AWAY)
        }
        Err(error) => check.fails(Stops::Start, database::told(&error), control_cure(config)),
    }
}

/// Logs in as a pool does for its first client.
async fn login(check: Check, config: &Config, access: Access) -> Check {
    let Some(pool) = config.pools.get(&access) else { return check };
    // Without tenants there is nothing to serve; whoever else cannot get in keeps none of them out.
    let stops = if access == Access::Tenant { Stops::Start } else { Stops::Nothing };
    let timeout = config.limits.server_connect_timeout;
    let target = match Target::new(&config.server, &pool.login, timeout, config.keepalive) {
        Ok(target) => target,
        Err(error) => return check.fails(stops, in_one_line(&error), TLS),
    };
    let known = (access == Access::Tenant).then_some(&config.role_settings[..]);
    match pool::try_login(&target, known).await {
        Ok(()) => check,
        Err(pool::Error::Connect(error)) if error.is_away() => {
            let stops = if stops == Stops::Start { Stops::Waiting } else { stops };
            check.fails(stops, in_one_line(&error), AWAY)
        }
        Err(pool::Error::Connect(error)) => {
            let variable = format!("CLOISON_POOLS_{}_PASSWORD", access.as_str().to_uppercase());
            let cure = login_cure(&error, &format!("pools.{access}"), &variable);
            check.fails(stops, in_one_line(&error), cure)
        }
        Err(error) => {
            let cure = format!(
                "alter role \"{}\" reset all, as a superuser, or name them in role_settings",
                pool.login.user
            );
            check.fails(Stops::Nothing, in_one_line(&error), cure)
        }
    }
}

/// A role that can step around the policies must not carry a tenant's SQL.
async fn role(directory: &Directory, role: &str, access: Access) -> Vec<Check> {
    let check = || Check::good(format!("role {access}"), role);
    match directory.role_findings(role, access).await {
        Ok(findings) if findings.is_empty() => vec![check()],
        Ok(findings) => findings
            .into_iter()
            .map(|(problem, fix)| check().fails(Stops::Start, problem, fix))
            .collect(),
        Err(error) => vec![not_asked(check(), &error, INSTALL)],
    }
}

fn lint(looked: &Standing, action: LintAction) -> Vec<Check> {
    let check = || Check::good("lint", "critical findings");
    let stops = match action {
        LintAction::Refuse => Stops::Start,
        LintAction::Unready | LintAction::Warn => Stops::Nothing,
    };
    match looked {
        Ok(found) if found.is_empty() => vec![Check::good("lint", "nothing critical")],
        Ok(found) => found.values().map(|finding| critical(finding, stops)).collect(),
        Err(error) => {
            let waits = stops == Stops::Start && error.is_away();
            let stops = if waits { Stops::Waiting } else { stops };
            let cause = format!("the database could not be looked over: {}", in_one_line(error));
            vec![check().fails(stops, cause, INSTALL)]
        }
    }
}

fn critical(finding: &Finding, stops: Stops) -> Check {
    let Finding { name, object, detail, fix, key, .. } = finding;
    let fix = fix.as_deref().unwrap_or("no SQL cures it");
    let accept = key.replace('\'', r"'\''");
    let cure = format!("{fix}\nor live with it: cloison lint --accept '{accept}' --reason …");
    Check::good("lint", object).fails(stops, format!("{name}: {object}: {detail}"), cure)
}

fn login_cure(error: &backend::Error, section: &str, variable: &str) -> String {
    match error {
        backend::Error::NoPassword(_) => {
            format!("give it by {variable}, or by password_file in [{section}]")
        }
        backend::Error::Refused { sqlstate, .. } => refused_cure(sqlstate, section, variable),
        backend::Error::Tls(_) | backend::Error::TlsRefused => TLS.to_owned(),
        backend::Error::Scram(_) => refused_cure("28P01", section, variable),
        backend::Error::Dial { .. }
        | backend::Error::Protocol(_)
        | backend::Error::Timeout(_)
        | backend::Error::UnsupportedMethod(_) => {
            format!("see Postgres' log, and its pg_hba.conf for the role of [{section}]")
        }
    }
}

fn refused_cure(sqlstate: &str, section: &str, variable: &str) -> String {
    match sqlstate {
        "28P01" | "28000" => format!(
            "correct the role or its password in [{section}] or {variable}; \
             `cloison init --rotate` gives the roles that init made new passwords"
        ),
        "3D000" => "correct database in [server]".to_owned(),
        "42501" => {
            format!("grant connect on the database to the role of [{section}], as its owner")
        }
        _ => format!("see Postgres' log, and its pg_hba.conf for the role of [{section}]"),
    }
}

fn control_cure(config: &Config) -> String {
    format!("grant cloison_control to \"{}\"; or {INSTALL}", config.control.user)
}

const AWAY: &str = "start Postgres, or correct host and port in [server]";

const INSTALL: &str = "run `cloison install` on this database, with this version of the program";

const TLS: &str = "correct server_tls_sslmode and the files of server_tls_…";

/// Asked of the catalogue, where rights on the schema do not matter.
const KIT_IS_THERE: &str = "
    select exists (
        select
        from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        where n.nspname = 'cloison' and p.proname = 'kit_version'
    )";
