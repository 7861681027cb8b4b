//! The fifth seed: four tables, `organisation_id integer`, all rows to organisation 1, three unique
//! indexes wider by it, and the way back.

use std::process::ExitCode;

use super::support::{
    adopts, assert_same, fails_with, make, refuses, round_trip, run_as, schema, tenant, value,
};
use crate::support::{Server, batch, on_every_major, texts};

on_every_major!(one_command_adopts_and_one_takes_back);

pub(super) const TABLES: &str = "
    create table vechat_conversations (
        id serial primary key,
        participant1_id integer not null, participant1_type text not null,
        participant2_id integer not null, participant2_type text not null,
        created_at timestamptz not null default now()
    );
    create unique index vechat_conversations_participants on vechat_conversations
        (participant1_id, participant1_type, participant2_id, participant2_type);
    create table vechat_messages (
        id bigserial primary key,
        conversation_id integer not null references vechat_conversations on delete cascade,
        sender_id integer not null, body text not null
    );
    create index on vechat_messages (conversation_id);
    create table vechat_presence (
        id serial primary key, user_id integer not null, user_type text not null, status text
    );
    create unique index vechat_presence_user on vechat_presence (user_id, user_type);
    create table vechat_user_settings (
        id serial primary key, user_id integer not null, user_type text not null,
        settings jsonb not null default '{}',
        constraint vechat_user_settings_user unique (user_id, user_type)
    );
    comment on constraint vechat_user_settings_user on vechat_user_settings is 'one each';
    insert into vechat_conversations (participant1_id, participant1_type, participant2_id,
            participant2_type)
        select n, 'user', n + 1, 'user' from generate_series(1, 50) n;
    insert into vechat_messages (conversation_id, sender_id, body)
        select 1 + n % 50, n, 'text ' || n from generate_series(1, 500) n;
    insert into vechat_presence (user_id, user_type) select n, 'user' from generate_series(1, 50) n;
    insert into vechat_user_settings (user_id, user_type)
        select n, 'user' from generate_series(1, 50) n";

pub(super) const WORDS: [&str; 15] = [
    "--table",
    "vechat_conversations",
    "--table",
    "vechat_messages",
    "--table",
    "vechat_presence",
    "--table",
    "vechat_user_settings",
    "--column",
    "organisation_id",
    "--type",
    "integer",
    "--default-tenant",
    "1",
    "--create-tenants",
];

async fn one_command_adopts_and_one_takes_back(server: &Server) {
    let database = server.database().await;
    make(&database, TABLES).await;
    let before = schema(&database).await;
    round_trip(&database, &WORDS).await;
    let owner = database.owner().await;
    batch(
        &owner,
        "insert into cloison.tenants (name, slug, external_key) values ('Two', 'two', '2')",
    )
    .await;

    // One column in each table, every row filled, with organisation 1.
    for table in
        ["vechat_conversations", "vechat_messages", "vechat_presence", "vechat_user_settings"]
    {
        let listed = format!(
            "select string_agg(data_type || ' ' || is_nullable, ',') from \
             information_schema.columns where table_name = '{table}' \
             and column_name = 'organisation_id'"
        );
        assert_eq!(value(&owner, &listed).await, "integer NO");
        let filled = format!("select count(*) filter (where organisation_id <> 1) from {table}");
        assert_eq!(value(&owner, &filled).await, "0");
    }

    // Organisation 1 sees what was there, 2 nothing; each its own new rows, by the default.
    let one = tenant(&database, "1").await;
    let two = tenant(&database, "2").await;
    assert_eq!(value(&one, "select count(*) from vechat_messages").await, "500");
    assert_eq!(value(&two, "select count(*) from vechat_messages").await, "0");
    let say = "insert into vechat_presence (user_id, user_type) values (7, 'user')";
    batch(&two, say).await;
    assert_eq!(
        texts(&two, "select user_id || ' ' || organisation_id from vechat_presence").await,
        ["7 2"]
    );
    // The same pair in two, once in each.
    fails_with(&two, "23505", say).await;
    fails_with(&one, "23505", say).await;
    assert_eq!(value(&one, "select count(*) from vechat_presence").await, "50");
    // No row refers to another tenant's.
    let refer = "insert into vechat_messages (conversation_id, sender_id, body) values (1, 1, 'x')";
    batch(&one, refer).await;
    fails_with(&two, "23503", refer).await;
    // Unfiltered statements touch own rows only.
    batch(&two, "update vechat_presence set status = 'away'").await;
    assert_eq!(
        value(&owner, "select count(*) from vechat_presence where status = 'away'").await,
        "1"
    );

    // The way back, which the rows do not fit: said, and nothing is changed.
    let up = schema(&database).await;
    let error = refuses(&database, &["--down"]).await;
    assert!(error.contains("vechat_presence_user"), "{error}");
    assert!(error.contains("2 rows have (user_id, user_type) = 7, user"), "{error}");
    assert_same(&up, &schema(&database).await, "a refused --down");
    assert_eq!(value(&one, "select count(*) from vechat_presence").await, "50");
    batch(&owner, "delete from vechat_presence where organisation_id = 2").await;
    adopts(&database, &["--down"]).await;
    assert_same(&before, &schema(&database).await, "--down");
    assert_eq!(value(&owner, "select count(*) from vechat_messages").await, "501");
    let code = run_as(&database, "owner", &["--verify"]).await.unwrap();
    assert_ne!(code, ExitCode::SUCCESS);
}
