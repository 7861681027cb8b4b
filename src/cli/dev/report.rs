//! What `cloison dev` tells once clients can connect.

use std::io::{self, Write};
use std::path::PathBuf;

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
}

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

    /// Lines to paste, for people.
    pub(super) fn text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nCloison listens on {}.", self.listen)?;
        for tenant in &self.tenants {
            let about = format!("{} ({}, {})", tenant.name, tenant.slug, tenant.id);
            section(out, &about, &tenant.url)?;
        }
        if self.tenants.is_empty() {
            writeln!(out, "\n{NO_TENANTS}")?;
        }
        let superadmin =
            "Super-admin: every tenant's rows, once it has called enable_superadmin_mode()";
        section(out, superadmin, &self.superadmin_url)?;
        section(out, "Owner: migrations, through the proxy", &self.owner_url)?;
        section(out, "Postgres itself, past the proxy and every policy", &self.postgres_url)?;
        writeln!(out, "\nTokens")?;
        for (name, value) in [
            ("issuer", self.issuer.to_owned()),
            ("audience", self.audience.to_owned()),
            ("key set", self.jwks.display().to_string()),
            ("signing key", self.signing_key.display().to_string()),
        ] {
            writeln!(out, "  {name:<12} {value}")?;
        }
        writeln!(out, "  The ones above are valid for twelve hours. For another, run:")?;
        let example = self.tenants.first().map_or("acme", |tenant| &tenant.slug);
        let key = self.signing_key.display();
        writeln!(out, "  cloison token --tenant {example} --key {}", quoted(&key.to_string()))?;
        writeln!(out, "\nCtrl-C stops everything; rows and key are kept.")?;
        out.flush()
    }
}

fn section(out: &mut impl Write, about: &str, url: &str) -> io::Result<()> {
    writeln!(out, "\n{about}")?;
    writeln!(out, "  DATABASE_URL={}", quoted(url))?;
    writeln!(out, "  psql         {}", quoted(url))
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
    fn every_road_has_a_line_to_paste() {
        let mut text = Vec::new();
        report(vec![acme()]).text(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.matches("\n  DATABASE_URL='postgres://").count(), 4, "{text}");
        assert_eq!(text.matches("\n  psql         'postgres://").count(), 4, "{text}");
        assert!(!text.contains("no tenants"), "{text}");
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
