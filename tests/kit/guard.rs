//! What Postgres runs in a tenant's session as somebody else: actions of foreign keys, and the
//! application's own code in them, rules, SECURITY DEFINER functions.

use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, Rows, Server, add_tenant, batch, denied, on_every_major, texts};

on_every_major!(
    an_action_stays_with_the_tenant_where_the_key_does_not_hold_it,
    triggers_in_an_action_run_as_the_tenant,
    every_action_does_what_postgres_does,
    code_that_would_see_all_tenants_is_refused,
    a_trigger_for_each_statement_is_refused_until_it_is_fenced,
    rules_and_definer_functions_write_rows_of_the_tenant_only,
    any_kind_of_tenant_column_is_guarded,
    partitions_and_children_are_guarded,
    moving_a_row_to_another_partition_deletes_nothing,
    the_owner_and_the_superadmin_work_as_before,
    what_is_missing_or_switched_off_is_found_and_mended,
    an_older_kit_gets_guards_and_unprotect_takes_them,
    no_code_in_a_tenants_session_empties_a_table,
    no_setting_lifts_the_guard,
    code_in_a_tenants_session_leaves_the_kits_own_tables_alone,
    a_readonly_superadmin_changes_nothing_of_the_kits,
);

/// A database with two tenants.
struct Stand<'a> {
    database: Database<'a>,
    owner: Client,
    a: Uuid,
    b: Uuid,
}

impl<'a> Stand<'a> {
    async fn new(server: &'a Server, schema: &str) -> Self {
        let database = server.database().await;
        let owner = database.owner().await;
        let a = add_tenant(&owner, "a", Some("1")).await;
        let b = add_tenant(&owner, "b", Some("2")).await;
        batch(&owner, schema).await;
        Self { database, owner, a, b }
    }

    async fn sessions(&self) -> (Client, Client) {
        (self.database.tenant(self.a).await, self.database.tenant(self.b).await)
    }
}

/// Teams count their members by a trigger of the application's own, which names no tenant.
const TEAMS: &str = "
    create table public.team (tenant_id uuid not null, id int not null, members int not null,
        of_all bigint, primary key (tenant_id, id));
    create table public.person (tenant_id uuid not null, id int not null,
        primary key (tenant_id, id));
    create table public.member (tenant_id uuid not null, team int, person int, id int not null,
        primary key (tenant_id, id),
        foreign key (tenant_id, team) references public.team on delete cascade,
        foreign key (tenant_id, person) references public.person
            on delete cascade on update cascade);
    create function public.count_members() returns trigger language plpgsql as
        'begin
            update team set members = members - 1, of_all = (select sum(members) from team)
            where id = old.team;
            return case tg_op when ''DELETE'' then old else new end;
        end';
    create trigger counted before delete or update on public.member
        for each row execute function public.count_members();
    select cloison.protect('public.team'), cloison.protect('public.person'),
        cloison.protect('public.member')";

const TEAM_ROWS: &str = "
    insert into team (id, members) values (1, 100);
    insert into person (id) select generate_series(1, 5);
    insert into member (id, team, person) select n, 1, n from generate_series(1, 5) n";

async fn an_action_stays_with_the_tenant_where_the_key_does_not_hold_it(server: &Server) {
    for action in ["cascade", "set null", "set default"] {
        let stand = Stand::new(
            server,
            &format!(
                "create table public.par (id int primary key); \
                 create table public.chi (id int primary key, \
                     par int default 0 references public.par on delete {action}); \
                 select cloison.protect('public.par'), cloison.protect('public.chi')"
            ),
        )
        .await;
        let (of_a, of_b) = stand.sessions().await;
        batch(&of_a, "insert into par values (0), (1), (2); insert into chi values (2, 2)").await;
        batch(&of_b, "insert into chi values (1, 1)").await;
        let told = denied(&of_a, "delete from par where id = 1").await;
        assert_eq!(told, "a row of public.chi is not this tenant's");
        // A tenant can take its context away in the middle of a statement.
        denied(
            &of_a,
            "delete from par where id = 1 and set_config('cloison.context', '', true) = ''",
        )
        .await;
        assert_eq!(texts(&of_b, "select id || ':' || par from chi").await, ["1:1"]);
        // What is its own goes as ever.
        batch(&of_a, "delete from par where id = 2").await;
        let left = texts(&of_a, "select coalesce(par::text, 'null') from chi").await;
        let expected: &[&str] = match action {
            "cascade" => &[],
            "set null" => &["null"],
            _ => &["0"],
        };
        assert_eq!(left, expected, "{action}");
    }
}

async fn triggers_in_an_action_run_as_the_tenant(server: &Server) {
    let stand = Stand::new(server, TEAMS).await;
    let (of_a, of_b) = stand.sessions().await;
    batch(&of_b, "insert into team (id, members) values (1, 100), (2, 1000)").await;
    batch(&of_a, TEAM_ROWS).await;
    let teams = "select format('%s %s %s', id, members, of_all) from team order by 1";

    batch(&of_a, "delete from person where id = 1").await;
    batch(&of_a, "update person set id = 50 where id = 5").await;
    assert_eq!(
        texts(&of_a, "select person::text from member order by 1").await,
        ["2", "3", "4", "50"]
    );
    denied(
        &of_a,
        "delete from person where id = 2 and set_config('cloison.context', '', true) = ''",
    )
    .await;
    batch(&of_a, "begin; set role cloison_tenant; delete from person where id = 3; commit").await;
    // The sum is of this tenant's teams alone.
    assert_eq!(texts(&of_a, teams).await, ["1 97 98"]);
    assert_eq!(texts(&of_b, teams).await, ["1 100 ", "2 1000 "]);

    batch(&of_a, "reset role; delete from team").await;
    assert_eq!(texts(&of_a, "select id::text from member").await, [""; 0]);
    assert_eq!(texts(&of_b, teams).await, ["1 100 ", "2 1000 "]);
}

async fn every_action_does_what_postgres_does(server: &Server) {
    // Each pair of actions twice: with code on the way, so that it is done in the tenant's name,
    // and as Postgres does it.
    let mut names = Vec::new();
    let mut schema = String::from(
        "create function public.nop() returns trigger language plpgsql as 'begin return \
         case tg_op when ''DELETE'' then old else new end; end';",
    );
    for (place, action) in ["cascade", "set null", "set default"].into_iter().enumerate() {
        for kind in ["plain", "code"] {
            let name = format!("{kind}{place}");
            schema.push_str(&format!(
                "create table public.{name} (tenant_id uuid not null, id int, x int, \
                     up_x int default 9, up_id int default 9, primary key (tenant_id, id), \
                     unique (x, id), \
                     foreign key (up_x, up_id) references public.{name} (x, id) \
                         on delete {action} on update {action});"
            ));
            if kind == "code" {
                schema.push_str(&format!(
                    "create trigger nop before delete or update on public.{name} \
                     for each row execute function public.nop();"
                ));
            }
            schema.push_str(&format!("select cloison.protect('public.{name}');"));
            names.push(name);
        }
    }
    let stand = Stand::new(server, &schema).await;
    let (of_a, _) = stand.sessions().await;
    let mut told = Vec::new();
    for name in &names {
        let made = texts(
            &stand.owner,
            &format!(
                "select count(*)::text from pg_trigger where tgname ~ '^RI_Cloison' \
                      and tgrelid = 'public.{name}'::regclass"
            ),
        )
        .await;
        assert_eq!(made, [if name.starts_with("code") { "2" } else { "0" }], "{name}");
        batch(
            &of_a,
            &format!(
                "insert into {name} (id, x, up_x, up_id) values (9, 9, null, null), \
                     (1, 1, null, null), (2, 1, 1, 1), (3, 1, 1, 2), (4, 1, 1, 3), \
                     (5, 1, 9, 9), (6, null, 1, 1), (7, 1, null, 1);
                 update {name} set x = 5 where id = 1;
                 update {name} set id = id where id = 3;
                 delete from {name} where id = 3"
            ),
        )
        .await;
        let rows = format!(
            "select string_agg(format('%s,%s,%s,%s', id, x, up_x, up_id), ' ' order by id) \
             from {name}"
        );
        told.push(texts(&of_a, &rows).await);
    }
    for pair in told.chunks(2) {
        assert_eq!(pair.first(), pair.last());
    }
}

/// Says who it runs as, and how many documents it sees.
const SPY: &str = "
    create table public.seen (who text, documents bigint);
    grant insert, select on public.seen to cloison_tenant;
    create function public.spy() returns trigger language plpgsql as
        'begin
            insert into seen select current_user, (select count(*) from document);
            if tg_level = ''STATEMENT'' then return null; end if;
            return case tg_op when ''DELETE'' then old else new end;
        end';
    create table public.document (tenant_id uuid not null, id int, primary key (tenant_id, id));
    create table public.line (tenant_id uuid not null, id int, document int,
        is_hidden boolean not null default false, primary key (tenant_id, id),
        foreign key (tenant_id, document) references public.document on delete cascade);
    select cloison.protect('public.document'), cloison.protect('public.line')";

const SPY_ROWS: &str = "insert into document (id) values (1), (2), (3);
    insert into line (id, document) values (1, 1), (2, 2), (3, 3)";

async fn code_that_would_see_all_tenants_is_refused(server: &Server) {
    let stand = Stand::new(server, SPY).await;
    batch(
        &stand.owner,
        "create policy hidden on public.line as restrictive for all to cloison_tenant \
         using (not is_hidden) with check (true)",
    )
    .await;
    let (of_a, of_b) = stand.sessions().await;
    batch(&of_a, SPY_ROWS).await;
    batch(&of_b, SPY_ROWS).await;
    let spy = "create trigger spy before delete on public.line \
               for each row execute function public.spy()";
    batch(&stand.owner, spy).await;
    // A trigger that is younger than the protection.
    let told = denied(&of_a, "delete from document where id = 1").await;
    assert_eq!(
        told,
        "a foreign key's action would run trigger spy of public.line past row security"
    );
    assert_eq!(texts(&stand.owner, "select who from public.seen").await, [""; 0]);
    let found = texts(&stand.owner, "select problem from cloison.protection_findings()").await;
    assert_eq!(found.len(), 1, "{found:?}");
    batch(&stand.owner, "select cloison.protect('public.line')").await;
    batch(&of_a, "delete from document where id = 1").await;
    let as_tenant = format!("{} 2", stand.database.login("tenant"));
    let seen = "select format('%s %s', who, documents) from public.seen";
    assert_eq!(texts(&stand.owner, seen).await, [as_tenant.as_str()]);

    // A policy of the application hides a row, and only the action would come to it.
    batch(&of_a, "insert into line (id, document, is_hidden) values (4, 3, true)").await;
    denied(&of_a, "delete from document where id = 3").await;
    assert_eq!(texts(&stand.owner, seen).await, [as_tenant.as_str()]);
    // As long as no code stands there, it does.
    batch(&stand.owner, "drop trigger spy on public.line").await;
    batch(&of_a, "delete from document where id = 3").await;
    assert_eq!(
        texts(&stand.owner, "select id::text from public.line order by 1").await,
        ["1", "2", "2", "3"]
    );

    // An AFTER trigger runs in the action from 18 on, and as the tenant before.
    let after = "create trigger spy after delete on public.line \
                 for each row execute function public.spy(); truncate public.seen";
    batch(&stand.owner, after).await;
    if server.major >= 18 {
        // What stood there for the BEFORE trigger.
        batch(&stand.owner, "drop trigger \"RI_Cloison_delete\" on public.document").await;
        denied(&of_a, "delete from document where id = 2").await;
        batch(&stand.owner, "select cloison.protect('public.line')").await;
    }
    batch(&of_a, "delete from document where id = 2").await;
    let as_tenant = format!("{} 0", stand.database.login("tenant"));
    assert_eq!(texts(&stand.owner, seen).await, [as_tenant]);
}

async fn a_trigger_for_each_statement_is_refused_until_it_is_fenced(server: &Server) {
    let stand = Stand::new(server, SPY).await;
    let (of_a, of_b) = stand.sessions().await;
    batch(&of_a, SPY_ROWS).await;
    batch(&of_b, SPY_ROWS).await;
    let seen = "select format('%s %s', who, documents) from public.seen";
    let as_tenant = format!("{} 3", stand.database.login("tenant"));
    for when in ["", "when (1 = 1)"] {
        batch(
            &stand.owner,
            &format!(
                "create or replace trigger \"Spy all\" before delete on public.line \
                 for each statement {when} execute function public.spy(); truncate public.seen"
            ),
        )
        .await;
        denied(&of_a, "delete from document where id = 1").await;
        assert_eq!(texts(&stand.owner, seen).await, [""; 0]);
        let fence = "select cloison.fence_trigger('public.line', 'Spy all')";
        for _ in 0..2 {
            batch(&stand.owner, fence).await;
        }
        batch(&of_a, "begin; delete from document where id = 1; rollback").await;
        assert_eq!(texts(&stand.owner, seen).await, [""; 0]);
        batch(&of_a, "delete from line where id = 99").await;
        assert_eq!(texts(&stand.owner, seen).await, [as_tenant.as_str()]);
    }
    batch(&of_a, "delete from document where id = 1").await;
    assert_eq!(texts(&of_a, "select id::text from line order by 1").await, ["2", "3"]);
}

async fn rules_and_definer_functions_write_rows_of_the_tenant_only(server: &Server) {
    let stand = Stand::new(
        server,
        "create table public.note (tenant_id uuid not null, id int, body text, \
             primary key (tenant_id, id)); \
         create table public.task (tenant_id uuid not null, id int, primary key (tenant_id, id)); \
         select cloison.protect('public.note'), cloison.protect('public.task'); \
         create rule spread as on delete to public.task do also \
             update public.note set body = 'spread' where id = old.id; \
         create view public.notes as select * from public.note; \
         grant select, update on public.notes to cloison_tenant; \
         select cloison.protect('public.note'); \
         create function public.erase(int) returns void language sql security definer \
             set search_path = pg_catalog, pg_temp \
             as 'delete from public.note where id = $1'; \
         create function public.put(uuid, int) returns void language sql security definer \
             set search_path = pg_catalog, pg_temp \
             as 'insert into public.note values ($1, $2, ''put'')'",
    )
    .await;
    let (of_a, of_b) = stand.sessions().await;
    batch(&of_b, "insert into note (id, body) values (1, 'theirs'), (2, 'theirs')").await;
    batch(&of_a, "insert into task (id) values (1), (3); insert into note (id) values (3)").await;
    denied(&of_a, "delete from task where id = 1").await;
    denied(&of_a, "update notes set body = 'mine' where id = 1").await;
    // The guard believes a context only after it has checked it.
    let forged = format!(
        "update notes set body = 'mine' where id = 1 \
         and set_config('cloison.context', 's{}' || repeat('0', 64), true) <> ''",
        stand.b
    );
    denied(&of_a, &forged).await;
    denied(&of_a, "select erase(1)").await;
    denied(&of_a, &format!("select put('{}', 9)", stand.b)).await;
    assert_eq!(texts(&of_b, "select body from note order by id").await, ["theirs", "theirs"]);
    // Where it is the tenant's own they work.
    batch(&of_a, &format!("delete from task where id = 3; select put('{}', 4)", stand.a)).await;
    assert_eq!(texts(&of_a, "select body from note order by id").await, ["spread", "put"]);
    batch(&of_a, "select erase(3), erase(4)").await;
    assert_eq!(texts(&of_a, "select body from note").await, [""; 0]);
    // SET ROLE changes nothing for who has logged in, and the policies are still there.
    batch(&of_a, "begin; set role cloison_tenant; insert into note (id) values (5); commit").await;
}

async fn any_kind_of_tenant_column_is_guarded(server: &Server) {
    for column in ["text", "varchar(20)", "bigint", "integer", "smallint"] {
        let stand = Stand::new(
            server,
            &format!(
                "create table public.\"Par ent\" (\"Te nant\" {column} not null, id int, \
                     primary key (id)); \
                 create table public.chi (\"Te nant\" {column} not null, id int, par int, \
                     foreign key (par) references public.\"Par ent\" on delete cascade); \
                 create function public.nop() returns trigger language plpgsql as \
                     'begin return old; end'; \
                 create trigger nop before delete on public.chi \
                     for each row execute function public.nop(); \
                 select cloison.protect('public.\"Par ent\"', 'tenant', 'Te nant'), \
                     cloison.protect('public.chi', 'tenant', 'Te nant')"
            ),
        )
        .await;
        let (of_a, of_b) = stand.sessions().await;
        batch(&of_a, "insert into \"Par ent\" (id) values (1), (2)").await;
        batch(&of_a, "insert into chi (id, par) values (2, 2)").await;
        batch(&of_b, "insert into chi (id, par) values (1, 1)").await;
        denied(&of_a, "delete from \"Par ent\" where id = 1").await;
        batch(&of_a, "delete from \"Par ent\" where id = 2").await;
        assert_eq!(texts(&of_a, "select id::text from chi").await, [""; 0], "{column}");
        assert_eq!(texts(&of_b, "select id::text from chi").await, ["1"], "{column}");
        let found = "select problem from cloison.protection_findings()";
        assert_eq!(texts(&stand.owner, found).await, [""; 0], "{column}");
    }
}

async fn partitions_and_children_are_guarded(server: &Server) {
    let stand = Stand::new(
        server,
        "create table public.event (tenant_id uuid not null, id int, at date not null, \
             primary key (tenant_id, id, at)) partition by range (at); \
         create table public.event_1 partition of public.event \
             for values from ('2026-01-01') to ('2026-02-01'); \
         create table public.base (tenant_id uuid not null, id int); \
         create table public.derived () inherits (public.base); \
         create function public.erase() returns void language sql security definer as \
             'delete from public.event; delete from public.base'; \
         select cloison.protect('public.event'), cloison.protect('public.base'); \
         create table public.event_2 partition of public.event \
             for values from ('2026-02-01') to ('2026-03-01'); \
         select cloison.protect('public.event')",
    )
    .await;
    let found = "select problem from cloison.protection_findings()";
    assert_eq!(texts(&stand.owner, found).await, [""; 0]);
    let (of_a, of_b) = stand.sessions().await;
    for row in [
        "insert into event values (default, 1, '2026-01-05')",
        "insert into event values (default, 1, '2026-02-05')",
        "insert into base values (default, 1)",
    ] {
        batch(&of_b, row).await;
        denied(&of_a, "select erase()").await;
        batch(&of_b, "delete from event; delete from base").await;
    }
    batch(&stand.owner, &format!("insert into public.derived values ('{}', 1)", stand.b)).await;
    denied(&of_a, "select erase()").await;
    batch(&stand.owner, "alter table public.event_1 disable trigger \"~cloison_guard\"").await;
    assert_eq!(texts(&stand.owner, found).await.len(), 1);
    let fix = texts(&stand.owner, "select fix from cloison.protection_findings()").await;
    batch(&stand.owner, &fix.concat()).await;
    assert_eq!(texts(&stand.owner, found).await, [""; 0]);
}

async fn moving_a_row_to_another_partition_deletes_nothing(server: &Server) {
    // On 14 Postgres itself takes it for a DELETE, and carries the action out.
    if server.major == 14 {
        return;
    }
    let stand = Stand::new(
        server,
        "create table public.shelf (tenant_id uuid not null, id int, \
             place int not null, primary key (tenant_id, id, place)) partition by list (place); \
         create table public.shelf_1 partition of public.shelf for values in (1); \
         create table public.shelf_2 partition of public.shelf for values in (2); \
         create table public.book (tenant_id uuid not null, id int, shelf int, place int, \
             primary key (tenant_id, id), \
             foreign key (tenant_id, shelf, place) references public.shelf \
                 on delete cascade on update cascade); \
         create function public.nop() returns trigger language plpgsql as 'begin return \
             case tg_op when ''DELETE'' then old else new end; end'; \
         select cloison.protect('public.shelf'), cloison.protect('public.book')",
    )
    .await;
    let (of_a, _) = stand.sessions().await;
    let rows = "insert into shelf (id, place) values (1, 1), (2, 1); \
                insert into book (id, shelf, place) values (1, 1, 1), (2, 2, 1)";
    batch(&of_a, rows).await;
    let books = "select format('%s %s', id, place) from book order by 1";
    batch(&of_a, "update shelf set place = 2 where id = 1").await;
    assert_eq!(texts(&of_a, books).await, ["1 2", "2 1"]);
    // With code on the way the action would have to run it. Whether the row is deleted or moves
    // cannot be told apart, so both are refused, and nothing is lost.
    batch(
        &stand.owner,
        "create trigger nop before delete or update on public.book \
         for each row execute function public.nop(); select cloison.protect('public.book')",
    )
    .await;
    denied(&of_a, "update shelf set place = 2 where id = 2").await;
    assert_eq!(texts(&of_a, books).await, ["1 2", "2 1"]);
    denied(&of_a, "delete from shelf where id = 2").await;
    assert_eq!(texts(&of_a, books).await, ["1 2", "2 1"]);
}

async fn the_owner_and_the_superadmin_work_as_before(server: &Server) {
    let stand = Stand::new(server, TEAMS).await;
    let (of_a, of_b) = stand.sessions().await;
    batch(&of_a, TEAM_ROWS).await;
    batch(&of_b, TEAM_ROWS).await;
    let owner = &stand.owner;
    let rows = "select count(*)::text from public.member";
    batch(owner, "delete from public.person where id = 1").await;
    assert_eq!(texts(owner, rows).await, ["8"]);
    batch(
        owner,
        &format!(
            "update public.member set tenant_id = '{}', id = 9 where id = 2 \
                  and tenant_id = '{}' and false",
            stand.a, stand.b
        ),
    )
    .await;
    let superuser = stand.database.superuser().await;
    let as_owner = format!(
        "set role {}; delete from public.person where id = 2; reset role",
        stand.database.login("owner")
    );
    batch(&superuser, &as_owner).await;
    assert_eq!(texts(owner, rows).await, ["6"]);
    batch(&superuser, "delete from public.person where id = 3").await;
    assert_eq!(texts(owner, rows).await, ["4"]);
    let superadmin = stand.database.session("superadmin").await;
    batch(&superadmin, "select cloison.enable_superadmin_mode()").await;
    stand.database.permit_writes(&superadmin).await;
    batch(&superadmin, "delete from person where id = 4").await;
    assert_eq!(texts(owner, rows).await, ["2"]);
}

async fn what_is_missing_or_switched_off_is_found_and_mended(server: &Server) {
    let stand = Stand::new(server, TEAMS).await;
    let owner = &stand.owner;
    let found = "select problem from cloison.protection_findings()";
    assert_eq!(texts(owner, found).await, [""; 0]);
    let before = stand.database.dump(Rows::Without).await;
    for fault in [
        "drop trigger \"~cloison_guard\" on public.member",
        "drop trigger \"!cloison_guard_row\" on public.member",
        "drop trigger \"!cloison_guard_all\" on public.member",
        "drop trigger \"RI_Cloison_delete\" on public.team",
        "alter table public.member disable trigger \"~cloison_guard\"",
        "alter trigger \"~cloison_guard\" on public.member rename to other",
        "drop trigger \"~cloison_guard\" on public.member; \
         create trigger \"~cloison_guard\" after update on public.member \
         for each row execute function cloison.guard_row('tenant_id')",
        "alter trigger counted on public.member rename to \" counted\"",
    ] {
        batch(owner, fault).await;
        let told = texts(owner, found).await;
        assert_eq!(told.len(), 1, "{fault}: {told:?}");
        let fix = texts(owner, "select fix from cloison.protection_findings()").await;
        batch(owner, &fix.concat()).await;
        assert_eq!(texts(owner, found).await, [""; 0], "{fault}");
        if fault.contains("counted") {
            continue;
        }
        assert_eq!(stand.database.dump(Rows::Without).await, before, "{fault}");
    }
}

async fn an_older_kit_gets_guards_and_unprotect_takes_them(server: &Server) {
    let stand = Stand::new(server, TEAMS).await;
    let owner = &stand.owner;
    let guards = "select count(*)::text from pg_trigger t join pg_proc p on p.oid = t.tgfoid \
                  where p.pronamespace = 'cloison'::regnamespace \
                  and t.tgrelid in ('public.team'::regclass, 'public.person'::regclass, \
                  'public.member'::regclass)";
    let all = texts(owner, guards).await;
    batch(owner, include_str!("../../sql/migrations/down/0013_guard.sql")).await;
    assert_eq!(texts(owner, guards).await, ["0"]);
    let found = "select problem from cloison.protection_findings()";
    assert_eq!(texts(owner, found).await, [""; 0]);
    let before = stand.database.dump(Rows::Without).await;
    batch(owner, include_str!("../../sql/migrations/0013_guard.sql")).await;
    assert_eq!(texts(owner, guards).await, all);
    batch(owner, include_str!("../../sql/migrations/down/0013_guard.sql")).await;
    assert_eq!(stand.database.dump(Rows::Without).await, before);
    batch(owner, include_str!("../../sql/migrations/0013_guard.sql")).await;

    batch(owner, "select cloison.unprotect('public.member')").await;
    assert_eq!(texts(owner, guards).await, ["4"]);
    assert_eq!(texts(owner, found).await, [""; 0]);
    batch(owner, "select cloison.unprotect('public.team'), cloison.unprotect('public.person')")
        .await;
    assert_eq!(texts(owner, guards).await, ["0"]);
}

/// Runs whatever it is given, as the owner.
const AS_OWNER: &str = "
    create function public.run(sql text) returns void language plpgsql security definer
        set search_path = pg_catalog, pg_temp as 'begin execute sql; end'";

async fn no_code_in_a_tenants_session_empties_a_table(server: &Server) {
    let stand = Stand::new(
        server,
        &format!(
            "{AS_OWNER}; create table public.note (tenant_id uuid not null, id int); \
             create table public.event (tenant_id uuid not null, at date not null) \
                 partition by range (at); \
             create table public.event_1 partition of public.event default; \
             create table public.base (tenant_id uuid not null, id int); \
             create table public.derived () inherits (public.base); \
             create table public.par (id int primary key); \
             create table public.chi (tenant_id uuid not null, \
                 par int references public.par on delete restrict); \
             select cloison.protect('public.note'), cloison.protect('public.event'), \
                 cloison.protect('public.base'), cloison.protect('public.chi')"
        ),
    )
    .await;
    let (of_a, of_b) = stand.sessions().await;
    batch(
        &of_b,
        "insert into note (id) values (1); insert into event values (default, '2026-01-01'); \
         insert into base (id) values (1); insert into chi default values",
    )
    .await;
    for table in ["note", "event", "event_1", "base", "derived", "only public.base", "par cascade"]
    {
        let table = table
            .strip_prefix("only ")
            .map_or_else(|| format!("public.{table}"), |table| format!("only {table}"));
        denied(&of_a, &format!("select run('truncate {table}')")).await;
    }
    let told = denied(&of_a, "select run('truncate public.note')").await;
    assert_eq!(told, "a tenant's session cannot empty public.note");
    let rows = "select count(*)::text from (select from note union all select from event \
                union all select from base union all select from chi) r";
    assert_eq!(texts(&of_b, rows).await, ["4"]);
    // The owner may, as ever.
    batch(&stand.owner, "truncate public.note, public.event, public.base, public.chi").await;
    assert_eq!(texts(&of_b, rows).await, ["0"]);
}

async fn no_setting_lifts_the_guard(server: &Server) {
    let stand = Stand::new(
        server,
        &format!(
            "{AS_OWNER}; create table public.note (tenant_id uuid not null, id int); \
             create table public.event (tenant_id uuid not null, at date not null) \
                 partition by range (at); \
             create table public.event_1 partition of public.event default; \
             select cloison.protect('public.note'), cloison.protect('public.event')"
        ),
    )
    .await;
    let (_, of_b) = stand.sessions().await;
    let rows = "insert into note (id) values (1); insert into event values (default, '2026-01-01')";
    batch(&of_b, rows).await;
    let lift =
        format!("alter database {} set session_replication_role = replica", stand.database.name);
    batch(&stand.database.superuser().await, &lift).await;
    let (of_a, of_b) = stand.sessions().await;
    assert_eq!(texts(&of_a, "show session_replication_role").await, ["replica"]);
    for statement in [
        "delete from public.note",
        "update public.note set id = 2",
        "delete from public.event",
        "delete from public.event_1",
        "truncate public.note",
        "truncate public.event_1",
        "update cloison.tenants set external_key = null",
        "delete from cloison.audit_log",
    ] {
        batch(&stand.owner, "insert into cloison.audit_log (actor, action) values ('x', 'y')")
            .await;
        denied(&of_a, &format!("select run('{statement}')")).await;
    }
    let left = "select (select count(*) from note) || ' ' || (select count(*) from event)";
    assert_eq!(texts(&of_b, left).await, ["1 1"]);
    // What a load leaves that has switched triggers off and on is found, and mended.
    batch(
        &stand.database.superuser().await,
        "alter table public.note disable trigger all; alter table public.note enable trigger all; \
         alter table only public.event_1 enable trigger all; \
         alter table cloison.tenants enable trigger all",
    )
    .await;
    let found = "select relation || ' ' || problem from cloison.protection_findings()";
    let found = texts(&stand.owner, found).await;
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(found.iter().all(|line| line.ends_with("not ENABLE ALWAYS")), "{found:?}");
    while let Some(fix) =
        texts(&stand.owner, "select fix from cloison.protection_findings() limit 1").await.first()
    {
        batch(&stand.owner, fix).await;
    }
}

async fn code_in_a_tenants_session_leaves_the_kits_own_tables_alone(server: &Server) {
    let stand = Stand::new(server, AS_OWNER).await;
    let (of_a, _) = stand.sessions().await;
    for statement in [
        "update cloison.tenants set status = 'suspended'",
        "delete from cloison.tenants where false",
        "delete from cloison.revocations",
        "truncate cloison.api_keys",
        "insert into cloison.accepted_findings (key, reason) values ('x', 'y')",
        "update cloison.settings set bind_process_id = false",
        "update cloison.signing_key set key = key",
        "truncate cloison.usage_events",
    ] {
        let sql = statement.replace('\'', "''");
        let told = denied(&of_a, &format!("select run('{sql}')")).await;
        assert!(told.starts_with("a tenant's session does not change cloison."), "{told}");
        batch(&stand.owner, &format!("begin; {statement}; rollback")).await;
    }
    // What the application keeps there of the tenant itself.
    let add = |tenant: Uuid| {
        format!(
            "select run('insert into cloison.tenant_users (tenant_id, user_id) \
                 values (''{tenant}'', ''ada'')'), \
             run('insert into cloison.usage_events (tenant_id, kind) values (''{tenant}'', ''x'')')"
        )
    };
    batch(&of_a, &add(stand.a)).await;
    denied(&of_a, &add(stand.b)).await;
    batch(&stand.owner, &format!("delete from cloison.tenants where id = '{}'", stand.a)).await;
}

async fn a_readonly_superadmin_changes_nothing_of_the_kits(server: &Server) {
    let stand = Stand::new(server, "select 1").await;
    let admin = stand.database.session("superadmin").await;
    batch(&admin, "select cloison.enable_superadmin_mode()").await;
    let statements = [
        "update cloison.tenants set status = status where false",
        "delete from cloison.tenants where false",
        "insert into cloison.tenants (name, slug) select 'x', 'x' where false",
        "update cloison.api_keys set name = name where false",
        "delete from cloison.tenant_users where false",
        "delete from cloison.usage_events where false",
    ];
    for statement in statements {
        let told = denied(&admin, statement).await;
        assert_eq!(told, "this super-admin's session is read-only", "{statement}");
    }
    // With the permit they go, and keep nobody waiting while they are open.
    stand.database.permit_writes(&admin).await;
    batch(&admin, "begin").await;
    for statement in statements {
        batch(&admin, statement).await;
    }
    batch(
        &stand.owner,
        "set statement_timeout = '2s'; select cloison.revoke_subject('eve', 'left us'); \
         update cloison.tenants set status = 'suspended' where slug = 'a'",
    )
    .await;
    batch(&admin, "commit").await;
}
