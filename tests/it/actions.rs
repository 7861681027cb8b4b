//! Actions of foreign keys and the application's triggers in them, through the proxy.

use crate::support::postgres::{A, B};
use crate::support::proxy;
use crate::support::wire::{Wire, error};

/// A key without the tenant, and a trigger that names none.
const SCHEMA: &str = "
    create table public.par (id int primary key);
    create table public.chi (id int primary key, par int references public.par on delete cascade);
    create table public.team (tenant_id uuid not null, id int, members int not null,
        of_all bigint, primary key (tenant_id, id));
    create table public.person (tenant_id uuid not null, id int, primary key (tenant_id, id));
    create table public.member (tenant_id uuid not null, team int, person int, id int,
        primary key (tenant_id, id),
        foreign key (tenant_id, team) references public.team on delete cascade,
        foreign key (tenant_id, person) references public.person on delete cascade);
    create function public.count_members() returns trigger language plpgsql as
        'begin
            update team set members = members - 1, of_all = (select sum(members) from team)
            where id = old.team;
            return old;
        end';
    create trigger counted before delete on public.member
        for each row execute function public.count_members();
    alter function public.count_members() owner to it_owner";

const TABLES: [&str; 5] = ["par", "chi", "team", "person", "member"];

#[tokio::test]
async fn an_action_leaves_the_rows_of_others_alone() {
    let proxy = proxy::new().unwatched().pool_size(4).run().await;
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute(SCHEMA).await.unwrap();
    for table in TABLES {
        let protect = format!(
            "alter table public.{table} owner to it_owner; select cloison.protect('public.{table}')"
        );
        superuser.batch_execute(&protect).await.unwrap();
    }
    let (mut a, mut b) = (Wire::tenant(&proxy, A).await, Wire::tenant(&proxy, B).await);
    for sql in [
        "insert into team (id, members) values (1, 100)",
        "insert into person (id) values (1), (2)",
    ] {
        assert_eq!(a.ask(sql).await.last().unwrap().tag, 'Z');
        assert_eq!(b.ask(sql).await.last().unwrap().tag, 'Z');
    }
    a.ask("insert into member (id, team, person) values (1, 1, 1), (2, 1, 2)").await;
    a.ask("insert into par values (1)").await;
    b.ask("insert into chi values (1, 1)").await;

    let refused = a.ask("delete from par").await;
    assert_eq!(error(&refused).field('C'), "42501");
    assert!(error(&refused).field('M').contains("public.chi"), "{:?}", error(&refused));
    assert_eq!(b.value("select count(*) from chi").await, "1");

    // The simple and the extended protocol.
    a.ask("delete from person where id = 1").await;
    a.run("delete from person where id = 2").sync().send().await;
    a.answer().await;
    assert_eq!(a.value("select count(*) from member").await, "0");
    assert_eq!(a.value("select members || ' ' || of_all from team").await, "98 99");
    assert_eq!(b.value("select members || coalesce(of_all::text, '') from team").await, "100");
    // A context that is taken away in the middle of the statement.
    let emptied = "delete from team where set_config('cloison.context', '', true) = ''";
    assert_eq!(error(&a.ask(emptied).await).field('C'), "42501");
    proxy.stop().await;
}
