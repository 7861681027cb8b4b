//! The audit log as a chain: what is changed in it shows.

use clap::Parser;
use cloison::cli;
use cloison::kit::audit::{self, Hash, Kind, Report};
use cloison::kit::migrate;
use tokio_postgres::Client;

use crate::support::{Database, Server, add_tenant, batch, denied, mark, on_every_major, texts};

on_every_major!(
    rows_are_chained_as_they_commit,
    every_change_shows_and_is_named,
    a_known_head_shows_what_was_cut_off,
    rows_from_before_are_taken_in,
    nobody_changes_a_row,
    who_stays_in_his_transaction_keeps_nobody_waiting,
    no_session_holds_the_chain,
    what_happens_to_a_row_without_a_place_shows,
    an_archive_and_what_is_left_prove_each_other,
    who_sees_a_part_is_told_nothing,
    the_verb_tells_by_its_exit_code,
    a_super_admin_only_reads_unless_the_proxy_lets_it_write,
);

/// As the proxy does within a second.
async fn chain(database: &Database<'_>) {
    batch(&database.session("control").await, "select cloison.audit_chain()").await;
}

async fn verify(database: &Database<'_>, known: Option<Hash>) -> Report {
    audit::verify(&mut database.owner().await, known, None, |_| {}).await.unwrap()
}

/// What is wrong, and with which row.
async fn fault(database: &Database<'_>) -> Option<(Kind, Option<i64>)> {
    let report = verify(database, None).await;
    report.fault.map(|fault| (fault.kind, fault.row.map(|row| row.0)))
}

async fn append(control: &Client, count: usize) {
    for number in 0..count {
        batch(
            control,
            &format!(
                "select cloison.audit_append('ada', 'test', {}, 's', '{{\"n\": {number}, \"é\": \"ü\"}}')",
                if number % 2 == 0 { "null" } else { "gen_random_uuid()" }
            ),
        )
        .await;
    }
}

async fn findings(database: &Database<'_>) -> Vec<String> {
    texts(
        &database.owner().await,
        "select concat_ws(' ', place, problem) from cloison.audit_findings()",
    )
    .await
}

async fn rows_are_chained_as_they_commit(server: &Server) {
    let database = server.database().await;
    assert_eq!(fault(&database).await, None);
    append(&database.session("control").await, 5).await;
    let operator = database.session("superadmin").await;
    batch(&operator, "select cloison.enable_superadmin_mode()").await;
    batch(
        &database.owner().await,
        "insert into cloison.audit_log (actor, action) values ('x', 'y'), ('z', '')",
    )
    .await;
    // What sessions have written is on record, and waits for its place.
    let report = verify(&database, None).await;
    assert_eq!((report.rows, report.pending, report.fault), (5, 3, None));
    assert_eq!(findings(&database).await, [""; 0]);
    chain(&database).await;
    let report = verify(&database, None).await;
    assert_eq!((report.rows, report.head.0, report.fault), (8, 8, None));
    assert_eq!(findings(&database).await, [""; 0]);
    let head = "select encode(hash, 'hex') from cloison.audit_log where position = 8";
    assert_eq!(texts(&database.owner().await, head).await, [report.head.1.to_string()]);
    // What is rolled back leaves no gap.
    let owner = database.owner().await;
    batch(
        &owner,
        "begin; insert into cloison.audit_log (actor, action) values ('x', 'y'); rollback",
    )
    .await;
    append(&database.session("control").await, 1).await;
    assert_eq!(verify(&database, None).await.head.0, 9);
    assert_eq!(fault(&database).await, None);
}

/// A change as somebody makes it who may do anything. No setting lets him: the triggers are
/// `ENABLE ALWAYS`.
fn past_the_triggers(change: &str) -> String {
    format!(
        "alter table cloison.audit_log disable trigger all; {change}; \
         select cloison.apply_kit_guards()"
    )
}

/// What somebody who may do anything does, and how it shows.
const CHANGES: &[(&str, Kind, Option<i64>)] = &[
    ("update cloison.audit_log set actor = 'bob' where position = 4", Kind::Altered, Some(4)),
    ("update cloison.audit_log set tenant_id = null where position = 4", Kind::Altered, Some(4)),
    (
        "update cloison.audit_log set at = at + interval '1 us' where position = 1",
        Kind::Altered,
        Some(1),
    ),
    ("update cloison.audit_log set session = null where position = 8", Kind::Altered, Some(8)),
    ("update cloison.audit_log set id = default where position = 4", Kind::Altered, Some(4)),
    ("update cloison.audit_log set detail = '{}' where position = 4", Kind::Altered, Some(4)),
    ("update cloison.audit_log set hash = sha256('x') where position = 4", Kind::Altered, Some(4)),
    // The hash computed anew: the next row tells.
    (
        "update cloison.audit_log set actor = 'bob' where position = 4; \
         update cloison.audit_log l set hash = cloison.audit_hash(l) where position = 4",
        Kind::Altered,
        Some(4),
    ),
    // One field's end moved into the next.
    (
        "update cloison.audit_log set actor = 'adat', action = 'est' where position = 4",
        Kind::Altered,
        Some(4),
    ),
    ("delete from cloison.audit_log where position = 4", Kind::Removed, Some(5)),
    ("delete from cloison.audit_log where position in (1, 2)", Kind::Removed, Some(3)),
    ("delete from cloison.audit_log where position = 8", Kind::Truncated, None),
    ("delete from cloison.audit_log", Kind::Truncated, None),
    (
        "update cloison.audit_log set position = -position where position in (4, 5); \
         update cloison.audit_log set position = 9 + position where position in (-4, -5)",
        Kind::Reordered,
        Some(4),
    ),
    // A row of somebody's own, rightly hashed, and what follows one place on.
    (
        "update cloison.audit_log set position = -position where position > 3; \
         update cloison.audit_log set position = 1 - position where position < 0; \
         insert into cloison.audit_log (actor, action, position, prev, hash) \
             select 'eve', 'x', 4, hash, '' from cloison.audit_log where position = 3; \
         update cloison.audit_log l set hash = cloison.audit_hash(l) where position = 4",
        Kind::Inserted,
        Some(4),
    ),
    ("insert into cloison.audit_log (actor, action) values ('eve', 'x')", Kind::Unchained, Some(0)),
];

async fn every_change_shows_and_is_named(server: &Server) {
    let database = server.database().await;
    append(&database.session("control").await, 8).await;
    let owner = database.owner().await;
    let superuser = database.superuser().await;
    batch(
        &superuser,
        "create table kept as table cloison.audit_log; create table head as table cloison.audit_head",
    )
    .await;
    for (change, kind, place) in CHANGES {
        batch(&superuser, &past_the_triggers(change)).await;
        assert_eq!(fault(&database).await, Some((*kind, *place)), "{change}");
        assert!(!findings(&database).await.is_empty(), "{change}");
        batch(
            &superuser,
            &past_the_triggers(
                "delete from cloison.audit_log; \
                 insert into cloison.audit_log overriding system value table kept",
            ),
        )
        .await;
        assert_eq!(fault(&database).await, None);
    }
    // With its triggers a row is appended as if nothing had been; the owner is told apart by nothing.
    batch(&owner, "insert into cloison.audit_log (actor, action) values ('eve', 'x')").await;
    assert_eq!(fault(&database).await, None);
    chain(&database).await;
    assert_eq!((fault(&database).await, verify(&database, None).await.rows), (None, 9));
}

async fn a_known_head_shows_what_was_cut_off(server: &Server) {
    let database = server.database().await;
    let control = database.session("control").await;
    append(&control, 4).await;
    let known = verify(&database, None).await.head.1;
    append(&control, 2).await;
    let report = verify(&database, Some(known)).await;
    assert_eq!((report.rows, report.fault), (6, None));
    // Cut off, and the end moved: the chain by itself is whole.
    batch(
        &database.superuser().await,
        &past_the_triggers(
            "delete from cloison.audit_log where position > 3; \
             update cloison.audit_head set (position, hash) = \
                 (select position, hash from cloison.audit_log where position = 3)",
        ),
    )
    .await;
    assert_eq!(fault(&database).await, Some((Kind::Vanished, None)));
    batch(&database.superuser().await, "update cloison.audit_written set rows = 3").await;
    assert_eq!(fault(&database).await, None);
    let report = verify(&database, Some(known)).await;
    assert_eq!(report.fault.unwrap().kind, Kind::HeadUnknown);
    assert_eq!(Hash::parse(&known.to_string()), Some(known));
    assert_eq!(Hash::parse("xyz"), None);
}

async fn rows_from_before_are_taken_in(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    let down = include_str!("../../sql/migrations/down/0009_audit.sql");
    batch(&database.owner().await, down).await;
    batch(
        &superuser,
        "insert into cloison.audit_log (actor, action) select 'old', i::text \
         from generate_series(1, 2500) i; delete from cloison.audit_log where id = 7",
    )
    .await;
    migrate::install(&database.owner().await, &[], |_| ()).await.unwrap();
    let report = verify(&database, None).await;
    assert_eq!((report.rows, report.fault), (2499, None));
    append(&database.session("control").await, 2).await;
    assert_eq!(verify(&database, None).await.head.0, 2501);
    assert_eq!(fault(&database).await, None);
    migrate::install(&database.owner().await, &[], |_| ()).await.unwrap();
    assert_eq!(verify(&database, None).await.head.0, 2501);
}

async fn nobody_changes_a_row(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    let control = database.session("control").await;
    batch(&control, &format!("select cloison.audit_append('x', 'y', '{a}', 's', null)")).await;
    let operator = database.session("superadmin").await;
    batch(&operator, "select cloison.enable_superadmin_mode()").await;
    for (session, may_try) in
        [(&owner, true), (&control, false), (&operator, false), (&database.tenant(a).await, false)]
    {
        for sql in [
            "update cloison.audit_log set actor = 'eve'",
            "update cloison.audit_log set hash = null",
            "update cloison.audit_log set detail = detail",
            "delete from cloison.audit_log",
            "truncate cloison.audit_log",
        ] {
            let told = denied(session, sql).await;
            assert_eq!(told == "the audit log is append-only", may_try, "{sql}: {told}");
        }
        if !may_try {
            denied(session, "select cloison.audit_link(1)").await;
            denied(session, "select cloison.audit_archive(1, '', '')").await;
            denied(session, "delete from cloison.audit_checkpoints").await;
            denied(session, "select * from cloison.audit_written").await;
            denied(session, "update cloison.audit_head set position = 0").await;
            let insert = "insert into cloison.audit_log (actor, action) values ('x', 'y')";
            denied(session, insert).await;
        }
    }
    assert_eq!(fault(&database).await, None);
    // A tenant reads its own records, and nothing that counts those of others.
    batch(&control, "select cloison.audit_append('x', 'y', gen_random_uuid(), 's', null)").await;
    let session = database.tenant(a).await;
    let own = "select actor || action || session || detail::text from cloison.audit_log";
    assert_eq!(texts(&session, own).await, ["xys{}"]);
    assert_eq!(texts(&owner, "select problem from cloison.protection_findings()").await, [""; 0]);
}

async fn who_stays_in_his_transaction_keeps_nobody_waiting(server: &Server) {
    let database = server.database().await;
    let operator = database.session("superadmin").await;
    batch(&operator, "begin; select cloison.enable_superadmin_mode()").await;
    append(&database.session("control").await, 2).await;
    batch(&operator, "commit").await;
    chain(&database).await;
    let report = verify(&database, None).await;
    assert_eq!((report.rows, report.fault), (3, None));
    let last = "select action from cloison.audit_log order by position desc limit 1";
    assert_eq!(texts(&database.owner().await, last).await, ["superadmin.enabled"]);
}

async fn no_session_holds_the_chain(server: &Server) {
    let database = server.database().await;
    let control = database.session("control").await;
    batch(&control, "set lock_timeout = '2s'; set statement_timeout = '5s'").await;
    for (access, hold) in [
        ("superadmin", "select cloison.enable_superadmin_mode()"),
        ("owner", "select cloison.revoke_token('x', 'y')"),
        ("owner", "insert into cloison.audit_log (actor, action) values ('x', 'y')"),
        ("owner", "select cloison.audit_chain()"),
        ("owner", "select from cloison.audit_head for update"),
    ] {
        let session = database.session(access).await;
        batch(&session, &format!("begin; {hold}; set constraints all immediate")).await;
        let other = database.session("superadmin").await;
        batch(&other, "set lock_timeout = '2s'; select cloison.enable_superadmin_mode()").await;
        append(&control, 1).await;
        assert_eq!(fault(&database).await, None, "{hold}");
        batch(&session, "rollback").await;
        append(&control, 1).await;
        let report = verify(&database, None).await;
        assert_eq!((report.pending, report.fault), (0, None), "{hold}");
    }
    assert_eq!(verify(&database, None).await.rows, 15);
}

async fn what_happens_to_a_row_without_a_place_shows(server: &Server) {
    let database = server.database().await;
    let superuser = database.superuser().await;
    append(&database.session("control").await, 2).await;
    let operator = database.session("superadmin").await;
    batch(&operator, "select cloison.enable_superadmin_mode()").await;
    batch(&superuser, "create table kept as table cloison.audit_log").await;
    for (change, kind, row) in [
        ("update cloison.audit_log set actor = 'bob' where hash is null", Kind::Altered, Some(0)),
        (
            "update cloison.audit_log set seal = sha256('') where hash is null",
            Kind::Altered,
            Some(0),
        ),
        ("update cloison.audit_log set seal = null where hash is null", Kind::Unchained, Some(0)),
        ("delete from cloison.audit_log where hash is null", Kind::Vanished, None),
    ] {
        batch(&superuser, &past_the_triggers(change)).await;
        assert_eq!(fault(&database).await, Some((kind, row)), "{change}");
        assert!(!findings(&database).await.is_empty(), "{change}");
        // It is not taken in either.
        chain(&database).await;
        assert_eq!(fault(&database).await, Some((kind, row)), "{change}");
        batch(
            &superuser,
            &past_the_triggers(
                "delete from cloison.audit_log; \
                 insert into cloison.audit_log overriding system value table kept",
            ),
        )
        .await;
        assert_eq!(fault(&database).await, None);
    }
    for sql in ["update cloison.audit_log set actor = 'eve'", "delete from cloison.audit_log"] {
        let told = denied(&database.owner().await, &format!("{sql} where hash is null")).await;
        assert_eq!(told, "the audit log is append-only");
    }
    // Nobody gives a new row a place of his choice.
    batch(
        &database.owner().await,
        "insert into cloison.audit_log (actor, action, position, prev, hash) \
         select 'eve', 'x', 1, hash, hash from cloison.audit_head",
    )
    .await;
    chain(&database).await;
    let report = verify(&database, None).await;
    assert_eq!((report.rows, report.fault), (4, None));
}

async fn an_archive_and_what_is_left_prove_each_other(server: &Server) {
    let database = server.database().await;
    let control = database.session("control").await;
    append(&control, 6).await;
    let file = |name: &str| {
        std::env::temp_dir().join(format!(
            "cloison-{}-{}-{name}",
            std::process::id(),
            database.name
        ))
    };
    let (one, two, altered) = (file("one"), file("two"), file("altered"));
    let move_all = async |to: &std::path::Path| {
        let owner = &mut database.owner().await;
        audit::archive(owner, &"tomorrow".to_owned(), to).await
    };
    let early = audit::archive(&mut database.owner().await, &"2001-01-01".to_owned(), &one).await;
    assert!(early.unwrap().unwrap().is_none());
    let known = verify(&database, None).await.head.1;
    let archived = move_all(&one).await.unwrap().unwrap().unwrap();
    assert_eq!((archived.places, archived.hash), ((1, 6), known));
    append(&control, 2).await;
    let actions = "select action from cloison.audit_log order by position";
    assert_eq!(texts(&database.owner().await, actions).await, ["audit.archived", "test", "test"]);
    let report = verify(&database, Some(known)).await;
    assert_eq!((report.start, report.head.0, report.fault), ((6, known), 9, None));
    assert_eq!(findings(&database).await, [""; 0]);
    // Another one goes on from there; a file that is there is not written over.
    assert!(move_all(&one).await.is_err());
    assert_eq!(move_all(&two).await.unwrap().unwrap().unwrap().places, (7, 9));

    let both = [one.clone(), two.clone()];
    let report = audit::check_files(&both).unwrap();
    assert_eq!(
        (report.rows, report.start.0, report.head.0, report.fault.is_none()),
        (9, 0, 9, true)
    );
    let whole =
        audit::verify(&mut database.owner().await, None, Some(&report), |_| {}).await.unwrap();
    assert_eq!((whole.rows, whole.fault), (10, None));
    let kind =
        |files: &[std::path::PathBuf]| audit::check_files(files).unwrap().fault.unwrap().kind;
    assert_eq!(kind(&[two.clone(), one.clone()]), Kind::Archive);
    let first = audit::check_files(&both[..1]).unwrap();
    let part =
        audit::verify(&mut database.owner().await, None, Some(&first), |_| {}).await.unwrap();
    assert_eq!(part.fault.unwrap().kind, Kind::Archive);
    let text = std::fs::read_to_string(&one).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    for (wrong, expected) in [
        (text.replacen("ada", "bob", 1), Kind::Altered),
        (text.replacen(lines[3], "", 1).replace("\n\n", "\n"), Kind::Removed),
        (text.replacen(lines[6], "", 1).replace("\n\n", "\n"), Kind::Truncated),
        (text.replacen(lines[7], "", 1), Kind::Truncated),
    ] {
        std::fs::write(&altered, wrong.trim_end()).unwrap();
        assert_eq!(kind(std::slice::from_ref(&altered)), expected);
    }
    std::fs::write(&altered, "{}").unwrap();
    assert!(audit::check_files(std::slice::from_ref(&altered)).is_err());

    // Neither does a checkpoint of one's own make room, nor is it believed.
    let superuser = database.superuser().await;
    batch(&superuser, "update cloison.audit_checkpoints set mac = sha256('')").await;
    assert_eq!(fault(&database).await, Some((Kind::Checkpoint, None)));
    assert!(!findings(&database).await.is_empty());
    // Of a broken chain nothing goes.
    let left = "select count(*) from cloison.audit_log";
    assert!(move_all(&file("none")).await.unwrap().is_err());
    assert_eq!(texts(&superuser, left).await, ["1"]);
    assert!(!file("none").exists());
    for path in [one, two, altered] {
        std::fs::remove_file(path).unwrap();
    }
}

async fn who_sees_a_part_is_told_nothing(server: &Server) {
    let database = server.database().await;
    for access in ["tenant", "superadmin", "control"] {
        let mut session = database.session(access).await;
        let told = audit::verify(&mut session, None, None, |_| {}).await.unwrap_err().to_string();
        assert!(told.contains("permission denied"), "{access}: {told}");
    }
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    audit: cli::audit::Args,
}

async fn the_verb_tells_by_its_exit_code(server: &Server) {
    let database = server.database().await;
    append(&database.session("control").await, 2).await;
    let run = |options: Vec<String>| async {
        let words = ["audit", "verify"].into_iter().map(str::to_owned).chain(options);
        let code = cli::audit::run(Program::parse_from(words).audit).await;
        code.map(|code| format!("{code:?}")).map_err(|error| error.to_string())
    };
    let url = |access| vec!["--database-url".to_owned(), database.url(access)];
    let with = |more: [&str; 2]| [url("owner"), more.map(str::to_owned).to_vec()].concat();
    let (good, bad) = ("ExitCode(unix_exit_status(0))", "ExitCode(unix_exit_status(1))");
    let head = verify(&database, None).await.head.1.to_string();
    assert_eq!(run(url("owner")).await.unwrap(), good);
    assert_eq!(run(with(["--head", &head])).await.unwrap(), good);
    assert_eq!(run(with(["--format", "json"])).await.unwrap(), good);
    assert_eq!(run(with(["--head", &"0".repeat(64)])).await.unwrap(), bad);
    assert!(run(url("tenant")).await.unwrap_err().contains("permission denied"));
    let json = verify(&database, None).await.to_json();
    assert_eq!(
        (json["unbroken"].as_bool(), json["head"]["hash"].as_str()),
        (Some(true), Some(&*head))
    );
    let superuser = database.superuser().await;
    batch(&superuser, &past_the_triggers("delete from cloison.audit_log where position = 1")).await;
    assert_eq!(run(url("owner")).await.unwrap(), bad);
    let json = verify(&database, None).await.to_json();
    assert_eq!(
        (json["fault"]["kind"].as_str(), json["fault"]["position"].as_i64()),
        (Some("Removed"), Some(2))
    );
}

async fn a_super_admin_only_reads_unless_the_proxy_lets_it_write(server: &Server) {
    let database = server.database().await;
    let owner = database.owner().await;
    let a = add_tenant(&owner, "a", None).await;
    batch(&owner, "create table public.note (body text); select cloison.protect('public.note')")
        .await;
    let row = format!("insert into public.note values ('x', '{a}')");
    batch(&owner, &row).await;
    let session = database.session("superadmin").await;
    batch(&session, "select cloison.enable_superadmin_mode()").await;
    let changes = [
        row.as_str(),
        "update public.note set body = 'y'",
        "delete from public.note",
        "update cloison.tenants set status = 'suspended'",
        "with gone as (delete from public.note returning 1) select * from gone",
        "select * from public.note for update",
        "begin; set transaction read write; delete from public.note",
    ];
    let is_refused = async |permit: &str| {
        let set = format!("select set_config('cloison.superadmin_write', '{permit}', false)");
        batch(&session, &set).await;
        for change in changes {
            let told = denied(&session, change).await;
            assert_eq!(told, "this super-admin's session is read-only", "{change}");
            batch(&session, "rollback").await;
        }
        assert_eq!(texts(&session, "select body from public.note").await, ["x"]);
    };
    is_refused("").await;
    let me = mark(&session).await;
    let other = mark(&database.session("superadmin").await).await;
    let good = database.write_permit(&me, 9_999_999_999).await;
    for bad in [
        database.write_permit(&other, 9_999_999_999).await,
        database.write_permit(&me, 1_700_000_000).await,
        format!("9999999998{}", &good[10..]),
        good[..73].to_owned(),
        format!("{good} "),
        texts(&session, "select current_setting('cloison.superadmin')").await.remove(0),
    ] {
        is_refused(&bad).await;
    }
    database.permit_writes(&session).await;
    batch(&session, "update public.note set body = 'y'").await;
    assert_eq!(texts(&owner, "select body from public.note").await, ["y"]);
    // A permit by itself is nothing, to a tenant least of all.
    let idle = database.session("superadmin").await;
    database.permit_writes(&idle).await;
    batch(&idle, "delete from public.note").await;
    assert_eq!(texts(&owner, "select body from public.note").await, ["y"]);
    let told = denied(&database.tenant(a).await, "select cloison.superadmin_may_write()").await;
    assert!(told.starts_with("permission denied"), "{told}");
    assert_eq!(texts(&owner, "select problem from cloison.protection_findings()").await, [""; 0]);
}
