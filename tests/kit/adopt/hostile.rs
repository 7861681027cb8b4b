//! Wrong words, wrong files, wrong roles: a clear error, and nothing lost.

use std::fs;
use std::process::Command;

use super::support::{adopts, assert_same, make, printed, program, refuses, run_as, schema, value};
use super::vechat::{TABLES, WORDS};
use crate::support::{Database, Server, batch, run};

/// Writes a mapping, tries it, and finds the words in the answer and nothing changed or begun.
async fn refused(database: &Database<'_>, mapping: &str, expected: &str) {
    let name = format!("hostile-{}-{}.toml", std::process::id(), database.name);
    let file = std::env::temp_dir().join(name);
    fs::write(&file, mapping).unwrap();
    let before = schema(database).await;
    for action in ["--plan", "--apply"] {
        let error = refuses(database, &["--mapping", file.to_str().unwrap(), action]).await;
        assert!(error.contains(expected), "{mapping}: {action}: {expected}\n{error}");
    }
    assert_same(&before, &schema(database).await, mapping);
    // Another one can be tried at once.
    let begun = "select count(*) from cloison.adoptions where state <> 'undone'";
    assert_eq!(value(&database.owner().await, begun).await, "0", "{mapping}");
    fs::remove_file(file).unwrap();
}

#[test]
fn a_mapping_that_cannot_be_meant_is_refused_before_anything_begins() {
    run(async {
        let server = Server::shared(16);
        let database = server.database().await;
        make(&database, TABLES).await;
        let rule = |text: &str| format!("schemas = ['public']\n[table.vechat_messages]\n{text}");
        for (text, expected) in [
            ("tables = ['vechat_messages'", "unclosed array"),
            ("schemas = ['nowhere']", "there is no schema nowhere"),
            ("tables = ['nothing']", "there is no table nothing"),
            ("schemas = ['public']\ntype = 'money'", "unknown variant `money`"),
            ("schemas = ['public']\nkeep_keys = ['nokey']", "keep_keys names nokey, and no key"),
            (
                "schemas = ['public']\ntype = 'integer'\ndefault_tenant = 'a'\ncreate_tenants = true",
                "the tenant \"a\" does not fit a column of type integer (say another",
            ),
            (&rule("tenant = 'substr('"), "its rule cannot be run: syntax error"),
            (&rule("tenant = 'no_column'"), "column \"no_column\" does not exist"),
            (
                &rule("tenant = '1) from t; drop table vechat_presence; --'"),
                "its rule cannot be run: syntax error",
            ),
            (&rule("tenant = 'sender_id'"), "cannot cast type integer to uuid"),
            (&rule("map = 'no_map'\nby = ['id']"), "relation \"no_map\" does not exist"),
            (
                &rule("parent = 'vechat_presence'"),
                "it has no foreign key to public.vechat_presence",
            ),
        ] {
            refused(&database, text, expected).await;
        }
        assert_eq!(
            value(&database.owner().await, "select count(*) from vechat_presence").await,
            "50"
        );
    });
}

/// What only the rows tell is found before anything is changed, too, and the next mapping need not
/// be preceded by --down.
#[test]
fn a_rule_that_fails_at_a_row_leaves_nothing_begun() {
    run(async {
        let server = Server::shared(17);
        let database = server.database().await;
        make(&database, TABLES).await;
        let file = std::env::temp_dir().join(format!("row-{}.toml", std::process::id()));
        fs::write(&file, "schemas = ['public']\n[table.vechat_messages]\ntenant = 'body'\n")
            .unwrap();
        let words = ["--mapping", file.to_str().unwrap(), "--apply"];
        let error = refuses(&database, &words).await;
        assert!(error.contains("invalid input syntax for type uuid"), "{error}");
        adopts(&database, &[&WORDS[..], &["--apply"]].concat()).await;
        // Of one that has begun, another mapping is not taken for it.
        let error = refuses(&database, &["--table", "nothing", "--apply"]).await;
        assert!(error.contains("there is no table nothing"), "{error}");
        fs::remove_file(file).unwrap();
    });
}

/// Files of a plan do nothing to another database: they name its tenants.
#[test]
fn files_are_for_the_database_that_they_were_made_for() {
    run(async {
        let server = Server::shared(15);
        let (one, other) = (server.database().await, server.database().await);
        for database in [&one, &other] {
            make(database, TABLES).await;
        }
        let before = schema(&other).await;
        let folder = std::env::temp_dir().join(format!("plan-{}-{}", std::process::id(), one.name));
        let words = ["--schema", "public", "--plan", folder.to_str().unwrap()];
        adopts(&one, &words).await;
        for file in ["1-expand.up.sql", "3-protect.up.sql", "1-expand.down.sql"] {
            let done = Command::new("psql")
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &other.url("owner"), "-f"])
                .arg(folder.join(file))
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&done.stderr);
            assert!(!done.status.success(), "{file}");
            let expected =
                format!("was made for the database {}, not for {}", one.name, other.name);
            assert!(error.contains(&expected), "{error}");
        }
        assert_same(&before, &schema(&other).await, "files of another database");
        // A folder that cannot be written is said by its name, and costs nothing.
        let words = ["--schema", "public", "--plan", "/proc/no/plan"];
        let error = refuses(&one, &words).await;
        assert!(error.starts_with("could not write /proc/no/plan: "), "{error}");
        fs::remove_dir_all(folder).unwrap();
    });
}

/// A kept plan that somebody has changed is not half understood; whoever may not use the kit is told
/// who may; a reader that has seen enough does not end the work.
#[test]
fn a_changed_plan_and_a_stranger_are_told_what_to_do() {
    run(async {
        let server = Server::shared(18);
        let database = server.database().await;
        make(&database, TABLES).await;
        let words = ["--schema", "public", "--apply", "--stop-after", "3"];
        run_as(&database, "owner", &words).await.unwrap();
        let owner = database.owner().await;
        batch(
            &owner,
            "create table kept as select plan from cloison.adoptions; update cloison.adoptions \
             set plan = jsonb_set(plan, '{up,5,act}', '{\"nonsense\": 1}')",
        )
        .await;
        for action in ["--apply", "--down", "--verify"] {
            let error = refuses(&database, &[action]).await;
            assert!(
                error.contains("adoption 1: what is kept of it in cloison.adoptions"),
                "{error}"
            );
        }
        batch(&owner, "update cloison.adoptions a set plan = k.plan from kept k; drop table kept")
            .await;
        adopts(&database, &["--apply"]).await;

        for action in ["--plan", "--apply", "--down", "--verify"] {
            let words = ["--schema", "public", action];
            let error = run_as(&database, "tenant", &words).await.unwrap_err().to_string();
            assert!(error.contains("does not own the kit: run it as the owner"), "{error}");
        }

        let mut child = program(&database, &["--verify"]);
        child.stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(printed(&program(&database, &["--verify"]).output().unwrap()).contains("forced"));
    });
}
