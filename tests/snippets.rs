//! Every command and every statement in the documents runs as it is written.
//!
//! Each block is known here by its first line, with how it is run, or why it is not. One that is
//! not known fails the test, and so does an entry without a block.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// How a block is run.
enum How {
    /// SQL or commands of the owner's, in a database `shop` of their own that has the kit.
    Owner,
    /// The same, once this SQL has run there.
    After(&'static str),
    /// The same, in the database that the proxy serves.
    Served,
    /// SQL through the proxy, by the URL of this name, in which each of these errors is expected.
    As(&'static str, &'static [&'static str]),
    /// Not at all, for this reason.
    Not(&'static str),
}

use How::{After, As, Not, Owner, Served};

include!("snippets/list.rs");

/// The database of the owner's as it was, without what the last block has made.
const FRESH: &str = "
    drop database if exists shop with (force);
    drop role if exists shop_tenant, shop_proxy;
    create database shop template shop_fixture";

/// A block of a document.
struct Block {
    file: String,
    language: String,
    text: String,
}

fn documents(root: &Path) -> Vec<PathBuf> {
    let mut files = vec![root.join("README.md"), root.join("SECURITY.md")];
    for folder in ["docs", "docs/recipes"] {
        let found = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(found.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    files.sort();
    files
}

fn blocks(root: &Path) -> Vec<Block> {
    let mut blocks = Vec::new();
    for file in documents(root) {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        for language in ["sh", "sql"] {
            for block in text.split(&format!("```{language}\n")).skip(1) {
                let (text, _) = block.split_once("```").unwrap();
                let (file, language) = (name.clone(), language.to_owned());
                blocks.push(Block { file, language, text: text.to_owned() });
            }
        }
    }
    blocks
}

/// A running `cloison dev`, and a folder to work in.
struct Stand {
    dev: Child,
    told: Value,
    folder: PathBuf,
}

impl Stand {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("cloison-snippets-{}", std::process::id()));
        let (work, bin) = (folder.join("work"), folder.join("bin"));
        for folder in [&work, &bin] {
            fs::create_dir_all(folder).unwrap();
        }
        // Postgres does not run as root, and is to reach its own folder.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let mut dev = Command::new(env!("CARGO_BIN_EXE_cloison"))
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("dev.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(dev.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let told = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: {line}\n{}", fs::read_to_string(folder.join("dev.log")).unwrap())
        });
        let stand = Self { dev, told, folder };
        // The documents page for people; nobody looks here.
        let less = stand.folder.join("bin/less");
        fs::write(&less, "#!/bin/sh\nexec cat\n").unwrap();
        fs::set_permissions(&less, fs::Permissions::from_mode(0o755)).unwrap();
        let work = stand.folder.join("work");
        fs::write(work.join("jwt.secret"), "s".repeat(44)).unwrap();
        fs::write(work.join("cloison.toml"), stand.configuration()).unwrap();
        let program = stand.folder.join("bin/cloison");
        // A server would go on for good: it is ended as soon as it is ready.
        let script = include_str!("snippets/cloison.sh");
        let script = script.replace("PROGRAM", env!("CARGO_BIN_EXE_cloison"));
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let made = stand.run(
            "psql -X -q -v ON_ERROR_STOP=1 \"$SUPERUSER_URL\"",
            include_str!("snippets/stand.sql"),
        );
        assert!(made.status.success(), "{}", said(&made));
        let made = stand.run(
            "cloison install --database-url \"$FIXTURE_URL\" --compat public,supabase && \
             psql -X -q -v ON_ERROR_STOP=1 \"$FIXTURE_URL\"",
            include_str!("snippets/shop.sql"),
        );
        assert!(made.status.success(), "{}", said(&made));
        stand
    }

    /// A URL that the stand has told of, with another database if one is given.
    fn url(&self, name: &str, database: Option<&str>) -> String {
        let url = match name {
            "acme" => &self.told["tenants"][0]["url"],
            "globex" => &self.told["tenants"][1]["url"],
            "writing superadmin" => &self.told["superadmin_url"],
            name => &self.told[format!("{name}_url").as_str()],
        };
        let url = url.as_str().unwrap();
        if name == "writing superadmin" {
            return format!("{url}?options=-c%20cloison.write%3Don");
        }
        match database {
            Some(database) => format!("{}/{database}", url.rsplit_once('/').unwrap().0),
            None => url.to_owned(),
        }
    }

    /// A configuration that serves the same database by a proxy of its own.
    fn configuration(&self) -> String {
        let logins = fs::read_to_string(self.folder.join("data/logins.json")).unwrap();
        let logins: Value = serde_json::from_str(&logins).unwrap();
        let postgres = self.url("postgres", None);
        let place = postgres.rsplit_once('@').unwrap().1.split_once('/').unwrap().0;
        let (host, port) = place.rsplit_once(':').unwrap();
        let login = |user: &str| format!("user = '{user}'\npassword = {}\n", logins[user]);
        let keys = self.folder.join("data/jwks.json");
        let issuer = format!(
            "issuer = 'i'\naudience = 'a'\nalgorithms = ['ES256']\njwks_file = '{}'\n",
            keys.display()
        );
        [
            format!("[server]\nhost = '{host}'\nport = {port}\ndatabase = 'app'\n"),
            format!("[control]\n{}", login("cloison_proxy")),
            format!("[pools.tenant]\n{}", login("cloison_app")),
            format!("[pools.superadmin]\n{}", login("cloison_admin")),
            format!("[issuers.tenant]\n{issuer}"),
            format!(
                "[issuers.admin]\naccess = 'superadmin'\nrequired_claims = {{ x = 'y' }}\n{issuer}"
            ),
        ]
        .concat()
    }

    /// Runs a script in the folder, with what the documents take for granted around it.
    fn run(&self, script: &str, input: &str) -> Output {
        let path = std::env::var("PATH").unwrap();
        let service = fs::read_to_string(self.folder.join("data/_service.url")).unwrap();
        let mut child = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.folder.join("work"))
            .env("PATH", format!("{}:{path}", self.folder.join("bin").display()))
            .env("CLOISON_DATA_DIR", self.folder.join("data"))
            .env("SUPERUSER_URL", self.url("postgres", None))
            .env("FIXTURE_URL", self.url("postgres", Some("shop_fixture")))
            .env("URL_A", self.url("acme", None))
            .env("URL_B", self.url("globex", None))
            .env("URL_SUPERADMIN", self.url("superadmin", None))
            .env("SERVICE_URL", service.trim())
            .env("PAGER", "cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // One that reads nothing may be over already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The output of a block that went wrong.
    fn fault(&self, block: &Block, how: &How) -> Option<String> {
        let psql = |url: &str| format!("psql -X -q -v ON_ERROR_STOP=1 \"{url}\"");
        let owner = |url: &str, text: &str| match block.language.as_str() {
            "sql" => (psql(url), text.to_owned()),
            // A port is free or not, and the stand's database is `app`.
            _ => {
                let port = self.told["listen"].as_str().unwrap().rsplit_once(':').unwrap().1;
                let text =
                    text.replace("-p 6432", &format!("-p {port}")).replace("-d shop", "-d app");
                (format!("export OWNER_URL=\"{url}\"\n{text}"), String::new())
            }
        };
        let (script, input) = match how {
            Not(_) => return None,
            Owner | After(_) => {
                let fresh = self.run(&psql("$SUPERUSER_URL"), FRESH);
                assert!(fresh.status.success(), "{}", said(&fresh));
                let url = self.url("postgres", Some("shop"));
                if let After(sql) = how {
                    let made = self.run(&psql(&url), sql);
                    assert!(made.status.success(), "{}", said(&made));
                }
                owner(&url, &block.text)
            }
            Served => owner(&self.url("postgres", None), &block.text),
            As(name, expected) => {
                let url = if *name == "service" { "$SERVICE_URL" } else { &self.url(name, None) };
                let script = format!("psql -X -q \"{url}\"");
                let output = self.run(&script, &block.text);
                let told = said(&output);
                let errors: Vec<&str> =
                    told.lines().filter(|line| line.contains("ERROR:")).collect();
                let is_right = errors.len() == expected.len()
                    && errors.iter().zip(*expected).all(|(told, wanted)| told.contains(wanted));
                return (!is_right || !output.status.success()).then_some(told);
            }
        };
        let output = self.run(&script, &input);
        (!output.status.success()).then(|| said(&output))
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.dev.id().to_string()]).status();
        let _ = self.dev.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_block_of_the_documents_runs() {
    let blocks = blocks(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(blocks.len() > 20, "{}", blocks.len());
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    let stand = Stand::start();
    for block in &blocks {
        let first = block.text.lines().next().unwrap_or_default();
        let place = format!("{}: {first}", block.file);
        let Some(index) = LIST.iter().position(|(begins, _)| first.starts_with(begins)) else {
            wrong.push(format!("{place}: tests/snippets/list.rs does not say how to run it"));
            continue;
        };
        used.insert(index);
        if let Some(told) = stand.fault(block, &LIST[index].1) {
            wrong.push(format!("{place}\n{}\n{told}", block.text));
        }
    }
    for (index, (begins, how)) in LIST.iter().enumerate() {
        if let Not(reason) = how {
            assert!(reason.len() > 10, "{begins}: a reason is due");
        }
        if !used.contains(&index) {
            wrong.push(format!("no document has a block that begins with {begins:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
