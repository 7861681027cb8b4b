//! Each lint finds its fault, exactly that, and its fix cures it: on every major, as the database's
//! owner and as a role that may read the catalogue alone.

mod cli;
mod faults;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cloison::kit::lint::{self, Error, Finding, LINTS, Level};
use tokio_postgres::Client;

use crate::support::{Server, batch, denied, on_every_major, run, texts};

use faults::{FAULTS, Fault, STAGE, Who};

/// A server of its own: roles and their memberships are the same in all databases.
macro_rules! on_a_server_of_its_own {
    ($($test:ident: $major:literal),*) => {
        mod each_fault_is_found_and_cured {
            use super::run;
            $(#[test] fn $test() { run(super::each_fault_is_found_and_cured($major)); })*
        }
    };
}
on_a_server_of_its_own!(on_14: 14, on_15: 15, on_16: 16, on_17: 17, on_18: 18);

on_every_major!(
    without_the_kit_it_says_so,
    an_outdated_server_is_named,
    prepared_transactions_are_found_and_cured,
    statements_that_are_kept_for_all_are_found_and_cured,
);

async fn each_fault_is_found_and_cured(major: u32) {
    let server = Server::start(major);
    let database = server.database().await;
    let stand = Stand {
        superuser: database.superuser().await,
        owner: database.owner().await,
        control: database.session("control").await,
        major,
        names: [
            ("{tenant}", database.login("tenant")),
            ("{owner}", database.login("owner")),
            ("{database}", database.name.clone()),
        ],
    };
    batch(&stand.owner, STAGE).await;
    let clean = stand.findings(Look::ForFault).await;
    assert_eq!(clean, stand.findings(Look::ForCure).await);
    for finding in clean.values() {
        assert_eq!(finding.name, "server_outdated", "{finding:?}");
    }
    for fault in FAULTS.iter().filter(|fault| fault.majors.contains(&major)) {
        stand.try_fault(fault, &clean).await;
    }
    let left = stand.findings(Look::ForFault).await;
    assert_eq!(keys(&left), keys(&clean), "the last one left something");
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Look {
    ForFault,
    ForCure,
}

struct Stand {
    superuser: Client,
    owner: Client,
    control: Client,
    major: u32,
    names: [(&'static str, String); 3],
}

impl Stand {
    fn fill(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (mark, name)| text.replace(mark, name))
    }

    /// The findings by key. Two roles may look, and on each major the other one looks for the fault.
    async fn findings(&self, look: Look) -> BTreeMap<String, Finding> {
        let is_owner = (look == Look::ForCure) == self.major.is_multiple_of(2);
        let who = if is_owner { &self.owner } else { &self.control };
        by_key(lint::run(who).await.unwrap())
    }

    async fn try_fault(&self, fault: &Fault, clean: &BTreeMap<String, Finding>) {
        let Fault { make, undo, .. } = fault;
        let who = match fault.who {
            Who::Owner => &self.owner,
            Who::Superuser => &self.superuser,
        };
        batch(who, &self.fill(make)).await;
        let found = self.findings(Look::ForFault).await;
        let new: Vec<_> =
            found.values().filter(|finding| !clean.contains_key(&finding.key)).collect();
        let told: BTreeSet<_> =
            new.iter().map(|finding| (finding.key.clone(), finding.level.as_str())).collect();
        let expected: BTreeSet<_> =
            fault.finds.iter().map(|(key, level)| (self.fill(key), *level)).collect();
        assert_eq!(told, expected, "on {}, after {make}", self.major);
        for finding in &new {
            assert!(finding.key.starts_with(&format!("{}:", finding.name)), "{finding:?}");
            assert!(!finding.detail.is_empty() && !finding.object.is_empty(), "{finding:?}");
        }
        // The order does not matter, unless somebody has to lend a hand: some majors try the other.
        let mut to_cure = new.clone();
        if !self.major.is_multiple_of(2) && fault.cure_by_hand.is_empty() {
            to_cure.reverse();
        }
        for (place, finding) in to_cure.into_iter().enumerate() {
            // What is cured along with another is not there any more.
            if place > 0 && !self.findings(Look::ForCure).await.contains_key(&finding.key) {
                continue;
            }
            match &finding.fix {
                Some(fix) => batch(who, fix).await,
                None => batch(who, &self.fill(fault.cure_by_hand)).await,
            }
        }
        let left = self.findings(Look::ForCure).await;
        assert_eq!(keys(&left), keys(clean), "on {}, after the cure of {make}", self.major);
        batch(who, &self.fill(undo)).await;
    }
}

/// Only a server that is started anew has room for them, or none.
async fn prepared_transactions_are_found_and_cured(server: &Server) {
    let server = Server::start_with(server.major, "max_prepared_transactions = 3\n");
    let database = server.database().await;
    let found = by_key(lint::run(&database.session("control").await).await.unwrap());
    let found = &found["prepared_transactions:max_prepared_transactions"];
    assert!(found.level == Level::Warning && found.detail.contains("up to 3 "), "{found:?}");
    batch(&database.superuser().await, found.fix.as_ref().unwrap()).await;
    server.restart();
    let left = by_key(lint::run(&database.owner().await).await.unwrap());
    assert!(left.values().all(|finding| finding.name == "server_outdated"), "{left:?}");
}

/// All tenants are one role, and that role may read its own statements.
async fn statements_that_are_kept_for_all_are_found_and_cured(server: &Server) {
    let server =
        Server::start_with(server.major, "shared_preload_libraries = 'pg_stat_statements'\n");
    let database = server.database().await;
    let superuser = database.superuser().await;
    batch(&superuser, "create extension pg_stat_statements").await;
    let (one, other) = (database.session("tenant").await, database.session("tenant").await);
    batch(&other, "select 1 /* a secret */").await;
    let look = "select count(*) from public.pg_stat_statements where query like '%/* a secret */'";
    assert_eq!(texts(&one, look).await, ["1"]);
    let found = by_key(lint::run(&database.session("control").await).await.unwrap());
    let found = &found["extension_reach:pg_stat_statements"];
    assert!(found.level == Level::Warning, "{found:?}");
    batch(&superuser, found.fix.as_ref().unwrap()).await;
    denied(&one, look).await;
    denied(&one, "select public.pg_stat_statements_reset()").await;
    let left = by_key(lint::run(&database.owner().await).await.unwrap());
    assert!(left.values().all(|finding| finding.name == "server_outdated"), "{left:?}");
}

fn by_key(findings: Vec<Finding>) -> BTreeMap<String, Finding> {
    let count = findings.len();
    let map: BTreeMap<_, _> = findings.into_iter().map(|f| (f.key.clone(), f)).collect();
    assert_eq!(map.len(), count, "a key stands for two findings");
    map
}

fn keys(findings: &BTreeMap<String, Finding>) -> Vec<&String> {
    findings.keys().collect()
}

async fn without_the_kit_it_says_so(server: &Server) {
    let database = server.empty_database().await;
    let error = lint::run(&database.owner().await).await.unwrap_err();
    assert!(matches!(error, Error::Kit(None)), "{error}");
    let database = server.database().await;
    let owner = database.owner().await;
    let older = "create or replace function cloison.kit_version() returns integer language sql \
                 as 'select 2'";
    batch(&owner, older).await;
    let error = lint::run(&owner).await.unwrap_err();
    assert!(matches!(error, Error::Kit(Some(2))), "{error}");
    assert!(error.to_string().contains("run `cloison install`"), "{error}");
}

/// The lint with another version in the place of the server's own.
async fn as_if(owner: &Client, version: u32) -> Vec<String> {
    let lint = LINTS.iter().find(|lint| lint.name == "server_outdated").unwrap();
    let setting = "current_setting('server_version_num')::integer";
    assert!(lint.sql.contains(setting));
    let sql = lint.sql.replace(setting, &version.to_string());
    let sql = format!("select key || ' ' || level || ' ' || detail from ({sql}) l order by key");
    texts(owner, &sql).await
}

async fn an_outdated_server_is_named(server: &Server) {
    let database = server.empty_database().await;
    let owner = database.owner().await;
    let found = as_if(&owner, 170_005).await;
    let [found] = &found[..] else { panic!("{found:?}") };
    assert!(found.starts_with("server_outdated:17.5:17.12 warning"), "{found}");
    for cve in ["CVE-2025-8713", "CVE-2026-6473", "CVE-2026-6476", "CVE-2026-14680"] {
        assert!(found.contains(cve), "{cve} in {found}");
    }
    assert!(!found.contains("CVE-2025-4207"), "17.5 has that: {found}");
    // Cured.
    for newest in [150_020, 160_016, 170_012, 180_007] {
        assert_eq!(as_if(&owner, newest).await, [""; 0], "{newest}");
    }
    let found = as_if(&owner, 190_000).await;
    assert!(found.len() == 1 && found[0].contains("server_outdated:19:unknown"));
    // The list itself is on the newest minors' side: an older one has no fewer holes.
    assert!(as_if(&owner, 150_001).await[0].len() > as_if(&owner, 150_018).await[0].len());
}

#[test]
fn every_lint_has_a_fault_and_a_place_in_the_list() {
    let files: BTreeSet<_> = fs::read_dir("sql/lints")
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let listed: BTreeSet<_> = LINTS.iter().map(|lint| lint.name.to_owned()).collect();
    assert_eq!(files, listed, "sql/lints and src/kit/lint/list.rs differ");

    let lint_of = |(key, _): &(&str, _)| key.split(':').next().unwrap().to_owned();
    let mut tried: BTreeSet<_> =
        FAULTS.iter().flat_map(|fault| fault.finds.iter().map(lint_of)).collect();
    // What no SQL can bring about is tried by itself, above.
    let alone = ["prepared_transactions", "server_outdated"].map(str::to_owned);
    tried.extend(alone.clone());
    assert_eq!(listed, tried, "a lint without a fault that it finds, or the other way round");

    // Every level that a lint says it can have has been seen.
    let seen: BTreeSet<_> = FAULTS
        .iter()
        .flat_map(|fault| fault.finds.iter().map(|find| (lint_of(find), find.1.to_owned())))
        .chain(alone.map(|lint| (lint, "warning".to_owned())))
        .collect();
    let said: BTreeSet<_> = LINTS
        .iter()
        .flat_map(|lint| lint.levels().split(", ").map(|l| (lint.name.to_owned(), l.to_owned())))
        .collect();
    assert_eq!(said, seen, "levels that a lint claims, and levels that were seen");
    for lint in LINTS {
        assert!(!lint.title().is_empty() && !lint.why().is_empty(), "{}", lint.name);
    }
}
