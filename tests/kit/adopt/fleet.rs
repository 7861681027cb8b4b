//! Many databases, tables that are left out, and a way back that leaves a key out.

use std::fs;

use super::support::{
    adopts, assert_same, fails_with, make, printed, program, refuses, schema, tenant, value,
};
use super::vechat::{TABLES, WORDS};
use crate::support::{Server, add_tenant, batch, run, texts};

/// The same on every database of a list: what fails on one does not keep the others from it.
#[test]
fn a_fleet_has_a_status_for_each_database() {
    run(async {
        let server = Server::shared(16);
        let north = server.database().await;
        let south = server.database().await;
        let bare = server.empty_database().await;
        for database in [&north, &south] {
            make(database, TABLES).await;
        }
        let before = schema(&south).await;
        make(&north, "alter table vechat_presence add column organisation_id text").await;
        let file =
            std::env::temp_dir().join(format!("fleet-{}-{}", std::process::id(), north.name));
        let list = format!(
            "# three\nnorth = {}\nsouth = {}\nbare = {}\n",
            north.url("owner"),
            south.url("owner"),
            bare.url("owner")
        );
        fs::write(&file, list).unwrap();
        let fleet = |words: &[&str]| {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloison"));
            command.args(["adopt", "--fleet", file.to_str().unwrap()]).args(words);
            let done = command.output().unwrap();
            (done.status.code().unwrap(), printed(&done))
        };
        let words = [&WORDS[..], &["--apply"]].concat();
        let (code, text) = fleet(&words);
        assert_eq!(code, 1, "{text}");
        let line = |name: &str| {
            let found = text.lines().find(|line| line.starts_with(name)).unwrap();
            found.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert!(line("north").starts_with("north 1 nothing was changed"), "{text}");
        assert!(line("south").starts_with("south 0 Adoption 1 is done"), "{text}");
        assert!(
            line("bare").starts_with("bare 1 the kit in this database is not installed"),
            "{text}"
        );
        assert!(!text.contains("host="), "an address may hold a password: {text}");

        fs::write(&file, format!("south = {}\n", south.url("owner"))).unwrap();
        let (code, text) = fleet(&["--verify"]);
        assert_eq!(code, 0, "{text}");
        let (code, text) = fleet(&["--down", "--stop-after", "protect"]);
        assert_eq!(code, 2, "{text}");
        let (code, text) = fleet(&["--down"]);
        assert_eq!(code, 0, "{text}");
        assert_same(&before, &schema(&south).await, "--down of a fleet");
        fs::remove_file(&file).unwrap();
    });
}

/// A key that a table refers to which is not adopted has to stay; tenants' own foreign keys get one
/// that holds the tenant.
#[test]
fn keys_that_others_stand_on_stay() {
    run(async {
        let server = Server::shared(17);
        let database = server.database().await;
        make(&database, TABLES).await;
        make(
            &database,
            "create table reports (conversation_id int references vechat_conversations);
             insert into reports values (1);
             create table full_match (a int, b text, foreign key (a, b) references
                 vechat_presence (user_id, user_type) match full)",
        )
        .await;
        let before = schema(&database).await;
        let words = [&WORDS[..], &["--table", "full_match"]].concat();
        let text = printed(&program(&database, &words).output().unwrap());
        for expected in [
            "public.vechat_conversations_pkey: stays as it is: the foreign key \
             reports_conversation_id_fkey of public.reports refers to it, and that table is not \
             adopted with it",
            "public.vechat_presence_user: stays as it is: the foreign key full_match_a_b_fkey of \
             public.full_match is MATCH FULL",
            "public.full_match: its foreign key full_match_a_b_fkey stays",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        adopts(&database, &[&words[..], &["--apply"]].concat()).await;
        let owner = database.owner().await;
        add_tenant(&owner, "two", Some("2")).await;
        let two = tenant(&database, "2").await;
        let refer =
            "insert into vechat_messages (conversation_id, sender_id, body) values (1, 1, 'x')";
        fails_with(&two, "23503", refer).await;
        assert_eq!(texts(&owner, "select conversation_id from reports").await, ["1"]);
        adopts(&database, &["--down"]).await;
        assert_same(&before, &schema(&database).await, "--down");
    });
}

/// Who insists gets his tables back without the keys that the rows no longer fit.
#[test]
fn a_key_that_no_longer_fits_can_be_left_out() {
    run(async {
        let server = Server::shared(18);
        let database = server.database().await;
        make(&database, TABLES).await;
        adopts(&database, &[&WORDS[..], &["--apply"]].concat()).await;
        let owner = database.owner().await;
        add_tenant(&owner, "two", Some("2")).await;
        let two = tenant(&database, "2").await;
        batch(&two, "insert into vechat_user_settings (user_id, user_type) values (1, 'user')")
            .await;
        refuses(&database, &["--down"]).await;
        adopts(&database, &["--down", "--force"]).await;
        let keys = "select count(*) from pg_constraint where conname = 'vechat_user_settings_user'";
        assert_eq!(value(&owner, keys).await, "0");
        assert_eq!(value(&owner, "select count(*) from vechat_user_settings").await, "51");
        let columns = "select count(*) from pg_attribute where attname = 'organisation_id' \
                       and attrelid = 'vechat_user_settings'::regclass and not attisdropped";
        assert_eq!(value(&owner, columns).await, "0");
        let other = "select count(*) from pg_indexes where indexname = 'vechat_presence_user'";
        assert_eq!(value(&owner, other).await, "1");
    });
}
