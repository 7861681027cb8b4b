//! What `cloison dev` tells once clients can connect.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The fields are the keys of the JSON line, in their order.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) listen: String,
    pub(super) tenants: Vec<TenantUrl>,
    pub(super) superadmin_url: String,
    pub(super) owner_url: String,
    pub(super) postgres_url: String,
    pub(super) issuer: &'static str,
    pub(super) audience: &'static str,
    pub(super) algorithm: &'static str,
    pub(super) jwks: PathBuf,
    pub(super) signing_key: PathBuf,
    /// For one pool of connections for all tenants.
    #[serde(skip)]
    pub(super) service_url: String,
    /// Where the URLs are kept, each in a file.
    #[serde(skip)]
    pub(super) folder: PathBuf,
}

/// Tenants that people are told of. The others are in `cloison.tenants`.
const MOST_TENANTS: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct TenantUrl {
    pub(super) slug: String,
    pub(super) id: String,
    pub(super) url: String,
    /// For people only.
    #[serde(skip)]
    pub(super) name: String,
}

impl Report {
    /// One line for programs.
    pub(super) fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, self)?;
        writeln!(out)?;
        out.flush()
    }

    /// Each URL with the name of its file. They hold tokens, which are too long for a terminal and
    /// are nothing for a list of processes or a history of commands.
    pub(super) fn files(&self) -> Vec<(PathBuf, &str)> {
        let tenants = self.tenants.iter().take(MOST_TENANTS);
        let tenants = tenants.map(|tenant| (tenant.file(), tenant.url.as_str()));
        let others = [
            (SERVICE, &self.service_url),
            (SUPERADMIN, &self.superadmin_url),
            (OWNER, &self.owner_url),
            (POSTGRES, &self.postgres_url),
        ];
        let others = others.map(|(name, url)| (name.to_owned(), url.as_str()));
        tenants.chain(others).map(|(name, url)| (self.folder.join(name), url)).collect()
    }

    /// Lines to paste, for people.
    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nCloison listens on {}.", self.listen)?;
        for tenant in self.tenants.iter().take(MOST_TENANTS) {
            writeln!(out, "\n{}\n  tenant {}", tenant.name, tenant.id)?;
            self.line(out, &tenant.file())?;
        }
        if self.tenants.len() > MOST_TENANTS {
            let more = self.tenants.len() - MOST_TENANTS;
            writeln!(out, "\nAnd {more} more tenants: select name, slug from cloison.tenants")?;
        }
        if self.tenants.is_empty() {
            writeln!(out, "\n{NO_TENANTS}")?;
        }
        for (about, file) in [
            ("One pool for all tenants; each is chosen by select set_tenant('…')", SERVICE),
            ("Super-admin: all tenants' rows, after select enable_superadmin_mode()", SUPERADMIN),
            ("Owner: migrations, through the proxy", OWNER),
            ("Postgres itself, past the proxy and every policy", POSTGRES),
        ] {
            writeln!(out, "\n{about}")?;
            self.line(out, file)?;
        }
        let example = self.tenants.first();
        let file = example.map_or_else(|| SERVICE.to_owned(), TenantUrl::file);
        writeln!(out, "\nThe files hold URLs, for an application, too:")?;
        writeln!(out, "  DATABASE_URL=$(cat {})", self.shown(&file))?;
        writeln!(out, "\nTokens end after twelve hours. Another, by the same key:")?;
        let slug = example.map_or("acme", |tenant| &tenant.slug);
        writeln!(out, "  cloison token --tenant {slug} \\\n    --data-dir {}", self.shown(""))?;
        for (name, value) in [
            ("issuer", self.issuer.to_owned()),
            ("audience", self.audience.to_owned()),
            ("key set", self.jwks.display().to_string()),
        ] {
            writeln!(out, "  {name:<9} {value}")?;
        }
        writeln!(out, "\nCtrl-C stops everything; rows and key are kept.")?;
        out.flush()
    }

    fn line(&self, out: &mut impl Write, file: &str) -> io::Result<()> {
        writeln!(out, "  psql \"$(cat {})\"", self.shown(file))
    }

    /// A file of the folder as a word for a POSIX shell; from the home folder if it is below that.
    fn shown(&self, file: &str) -> String {
        let path = if file.is_empty() { self.folder.clone() } else { self.folder.join(file) };
        shown(&path, env::var_os("HOME").map(PathBuf::from).as_deref())
    }
}

impl TenantUrl {
    fn file(&self) -> String {
        format!("{}.url", self.slug)
    }
}

// No tenant's slug begins so.
const SERVICE: &str = "_service.url";
const SUPERADMIN: &str = "_superadmin.url";
const OWNER: &str = "_owner.url";
const POSTGRES: &str = "_postgres.url";

/// As short as can be, and quoted where that is needed.
fn shown(path: &Path, home: Option<&Path>) -> String {
    let is_plain = |text: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        !text.is_empty() && text.chars().all(plain)
    };
    let below_home = home.filter(|home| home.is_absolute() && *home != Path::new("/"));
    let below_home = below_home.and_then(|home| path.strip_prefix(home).ok());
    match below_home.map(|rest| rest.display().to_string()).filter(|rest| is_plain(rest)) {
        Some(rest) => format!("~/{rest}"),
        None => match path.display().to_string() {
            text if is_plain(&text) => text,
            text => quoted(&text),
        },
    }
}

/// A word for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// For one part of a URL: all but RFC 3986's unreserved characters.
pub(in crate::cli) fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

const NO_TENANTS: &str = "\
There are no tenants yet. Make one with the owner's connection, and start again:
  insert into cloison.tenants (name, slug) values ('Acme', 'acme') returning id;
and bring your tables under isolation:
  select cloison.protect('public.orders');";

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tenants: Vec<TenantUrl>) -> Report {
        Report {
            listen: "127.0.0.1:6432".to_owned(),
            tenants,
            superadmin_url: "postgres://cloison_superadmin:t@127.0.0.1:6432/app".to_owned(),
            owner_url: "postgres://cloison_owner:t@127.0.0.1:6432/app".to_owned(),
            postgres_url: "postgres://postgres:p@127.0.0.1:5432/app".to_owned(),
            issuer: "i",
            audience: "a",
            algorithm: "ES256",
            jwks: "/d/jwks.json".into(),
            signing_key: "/d/key.pem".into(),
            service_url: "postgres://cloison_app:s@127.0.0.1:6432/app".to_owned(),
            folder: "/d".into(),
        }
    }

    fn acme() -> TenantUrl {
        TenantUrl {
            slug: "acme".to_owned(),
            id: "1".to_owned(),
            url: "postgres://cloison_app:t@127.0.0.1:6432/app".to_owned(),
            name: "Acme".to_owned(),
        }
    }

    #[test]
    fn the_json_line_has_its_keys_in_order() {
        let mut line = Vec::new();
        report(vec![acme()]).json(&mut line).unwrap();
        let expected = concat!(
            r#"{"listen":"127.0.0.1:6432","tenants":[{"slug":"acme","id":"1","#,
            r#""url":"postgres://cloison_app:t@127.0.0.1:6432/app"}],"#,
            r#""superadmin_url":"postgres://cloison_superadmin:t@127.0.0.1:6432/app","#,
            r#""owner_url":"postgres://cloison_owner:t@127.0.0.1:6432/app","#,
            r#""postgres_url":"postgres://postgres:p@127.0.0.1:5432/app","#,
            r#""issuer":"i","audience":"a","algorithm":"ES256","#,
            r#""jwks":"/d/jwks.json","signing_key":"/d/key.pem"}"#,
            "\n"
        );
        assert_eq!(String::from_utf8(line).unwrap(), expected);
    }

    #[test]
    fn every_road_has_a_line_to_paste_that_fits_a_terminal() {
        let mut text = Vec::new();
        let mut report = report(vec![acme()]);
        report.folder = "/var/lib/cloison/dev".into();
        let long = "a".repeat(12) + "-" + &"b".repeat(12);
        report.tenants[0].slug = long;
        report.text(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("\n  psql \"$(cat /var/lib/cloison/dev/").count(), 5, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        // No token is printed, and each URL is in a file of its own.
        assert!(!text.contains("postgres://"), "{text}");
        let files = report.files();
        assert_eq!(files.len(), 5);
        for (file, url) in files {
            assert!(url.starts_with("postgres://"));
            assert_eq!(text.matches(&format!("  psql \"$(cat {})\"\n", file.display())).count(), 1);
        }
        assert!(!text.contains("no tenants"), "{text}");
    }

    #[test]
    fn a_thousand_tenants_are_not_a_thousand_lines() {
        let mut text = Vec::new();
        let report = report((0..1_000).map(|_| acme()).collect());
        report.text(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("And 990 more tenants"));
        assert_eq!(report.files().len(), 14);
    }

    #[test]
    fn paths_are_words_of_a_shell() {
        let home = Some(Path::new("/home/ada"));
        for (path, expected) in [
            ("/home/ada/.local/dev/a.url", "~/.local/dev/a.url"),
            ("/home/ada/my data/a.url", "'/home/ada/my data/a.url'"),
            ("/home/adam/a.url", "/home/adam/a.url"),
            ("/srv/it's/a.url", r"'/srv/it'\''s/a.url'"),
        ] {
            assert_eq!(shown(Path::new(path), home), expected);
        }
        assert_eq!(shown(Path::new("/root/a"), Some(Path::new("/"))), "/root/a");
    }

    #[test]
    fn without_tenants_it_says_how_to_make_one() {
        let mut text = Vec::new();
        report(Vec::new()).text(&mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("insert into cloison.tenants"));
    }

    #[test]
    fn odd_names_survive_shells_and_urls() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(percent_encoded("a/b é"), "a%2Fb%20%C3%A9");
    }
}
