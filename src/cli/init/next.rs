//! What `cloison init` tells at its end: what was done, and the commands that come next.

use std::fmt::Write as _;

use super::choices::{Choices, Tokens};
use super::place::{File, Place};
use super::roles::Public;
use super::text::{Account, Server};
use crate::cli::install::Installed;
use crate::cli::shell_word;
use crate::kit::migrate::KIT_VERSION;
use crate::types::Access;

/// What was done.
pub(super) struct Done<'a> {
    pub(super) place: &'a Place,
    pub(super) server: &'a Server,
    pub(super) accounts: &'a [Account],
    pub(super) choices: &'a Choices,
    pub(super) installed: &'a Installed,
    pub(super) public: Public,
    /// The slug of a tenant that can be served.
    pub(super) tenant: Option<String>,
}

/// All of it, ready to be printed.
pub(super) fn report(done: &Done<'_>) -> String {
    let mut page = String::new();
    // Writing into a String cannot fail.
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(page, "{name:<10} {text}");
    };
    let database = &done.server.database;
    row("kit", &format!("version {KIT_VERSION} is installed in the database {database}"));
    if let Some(report) = &done.installed.hardening {
        row(
            "hardening",
            &match report.open() {
                0 => "everything is closed to tenants".to_owned(),
                open => format!("{open} rights stay open to tenants: a superuser closes them with"),
            },
        );
        if report.open() > 0 {
            row("", "select * from cloison.harden()");
        }
    }
    match done.public {
        Public::Closed => {}
        Public::Revoked => row("public", "revoke create on schema public from public: done"),
        Public::Open => {
            row("public", "every role may create in the schema public; its owner takes that away:");
            row("", "revoke create on schema public from public");
        }
    }
    for account in done.accounts.iter().filter(|account| account.access != Some(Access::Owner)) {
        let about = account.access.map_or("the proxy's own".to_owned(), |access| match access {
            Access::Tenant => "sessions of tenants".to_owned(),
            Access::Superadmin | Access::Owner => "sessions of super-admins".to_owned(),
        });
        row("role", &format!("{}: {about}", account.role));
    }
    row("file", &format!("{}: the configuration", done.place.shown(File::Configuration)));
    row("file", &format!("{}: the roles' passwords", done.place.shown(File::Environment)));
    if done.choices.uses_secret() {
        let text = "the secret that your application signs tokens with";
        row("file", &format!("{}: {text}", done.place.shown(File::Secret)));
    }
    page.push_str("\nNext\n");
    for command in commands(done) {
        let _ = writeln!(page, "  {command}");
    }
    page.push_str(PROTECT);
    page
}

/// The commands, as a shell takes them.
fn commands(done: &Done<'_>) -> Vec<String> {
    let files = format!(
        "--config {} --env-file {}",
        shell_word(&done.place.shown(File::Configuration)),
        shell_word(&done.place.shown(File::Environment))
    );
    let mut commands = vec![format!("cloison check --connect {files}")];
    commands.push(match done.place.is_packaged() {
        true => "systemctl restart cloison".to_owned(),
        false => format!("cloison serve {files}"),
    });
    if done.tenant.is_none() {
        let insert = "insert into cloison.tenants (name, slug) values ('Acme', 'acme')";
        commands.push(format!("psql \"$OWNER_URL\" -c {}", shell_word(insert)));
    }
    commands.push(client(done));
    commands
}

/// A client of a tenant.
fn client(done: &Done<'_>) -> String {
    let choices = done.choices;
    let token = match choices.tokens {
        Tokens::Secret => {
            let mut token = format!(
                "$(cloison token --secret-file {} --issuer {} --audience {} --tenant {}",
                shell_word(&done.place.shown(File::Secret)),
                shell_word(&choices.issuer),
                shell_word(&choices.audience),
                done.tenant.as_deref().unwrap_or("acme"),
            );
            if let Some(claim) = choices.tenant_claim.as_ref().filter(|claim| *claim != "tenant_id")
            {
                let _ = write!(token, " --tenant-claim {}", shell_word(claim));
            }
            token + ")"
        }
        // The provider mints it.
        Tokens::Provider(_) | Tokens::Jwks(_) => "$TOKEN".to_owned(),
    };
    let tls = if choices.tls.is_some() { "PGSSLMODE=require " } else { "" };
    format!(
        "{tls}PGPASSWORD=\"{token}\" psql -h {} -p {} -U app -d {}",
        choices.listen.local_host(),
        choices.listen.port,
        shell_word(&done.server.database)
    )
}

const PROTECT: &str = "\
Then bring your tables under isolation, as their owner: select cloison.protect('public.orders')\n";
