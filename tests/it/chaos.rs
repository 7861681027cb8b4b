//! Chaos: nothing crosses while everything breaks, and what crosses is seen.

use std::fs;
use std::process::Command;
use std::time::Duration;

use cloison::config::{PoolMode, ServerAddress};
use cloison::dev::cluster::Cluster;
use cloison::kit::verify::chaos::{self, Outcome, Plan, Writes};
use cloison::kit::verify::{Road, Roads};
use cloison::types::Access;

use crate::support::postgres::{self, A, B, Database};
use crate::support::proxy::{self, Proxy};
use crate::verify::roads;

const MODES: [PoolMode; 2] = [PoolMode::Session, PoolMode::Transaction];

fn plan(seconds: u64, restart: Option<String>) -> Plan {
    let duration = Duration::from_secs(seconds);
    Plan { duration, clients: 8, writes: Writes::RolledBack, restart }
}

async fn run(roads: &Roads, plan: Plan) -> Outcome {
    chaos::run(roads, plan, std::future::pending(), &mut |_| {}).await.unwrap()
}

/// A cluster of the test's own, and how to restart it from a shell.
struct Restartable {
    cluster: Cluster,
    pg_ctl: String,
}

impl Restartable {
    async fn start() -> Self {
        let cluster = Cluster::builder()
            .setting("fsync", "off")
            .setting("shared_buffers", "32MB")
            .start()
            .await
            .unwrap();
        postgres::prepare(&cluster, &[]).await;
        let data = cluster.data_dir().join("data");
        // The first word of the file is the program that runs.
        let options = fs::read_to_string(data.join("postmaster.opts")).unwrap();
        let program = options.split(' ').next().unwrap().trim_end_matches("postgres");
        let data = data.display();
        let pg_ctl = format!("{program}pg_ctl -D {data} -m immediate -w");
        let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        // As the cluster itself, which does not run as root.
        let owner = format!(
            "setpriv --reuid=$(stat -c %u {data}) --regid=$(stat -c %g {data}) \
                             --clear-groups {pg_ctl}"
        );
        Self { cluster, pg_ctl: if is_root { owner } else { pg_ctl } }
    }

    fn restart(&self) -> String {
        format!("{} -l /dev/null restart", self.pg_ctl)
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        // What was restarted is nobody's child.
        let stop = format!("{} stop", self.pg_ctl);
        let _ = Command::new("sh").args(["-c", &stop]).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_crosses_while_clients_connections_and_postgres_die() {
    let server = Restartable::start().await;
    let cluster = &server.cluster;
    let (user, password) = (cluster.superuser(), cluster.superuser_password());
    let (host, port) = (cluster.host(), cluster.port());
    let database = Database::elsewhere();
    let superuser = format!("postgres://{user}:{password}@{host}:{port}/{}", database.name);
    for mode in MODES {
        let proxy = proxy::new()
            .pool_size(4)
            .edit(move |config| {
                config.server.address = ServerAddress::Tcp(host.into(), port);
                config.pools.get_mut(&Access::Tenant).unwrap().mode = mode;
            })
            .run_on(Database::elsewhere())
            .await;
        let roads = roads(&proxy, [A, B], Some(&superuser));
        let outcome = run(&roads, plan(4, Some(server.restart()))).await;
        println!("{mode:?} {outcome:#?}");
        let tally = &outcome.tally;
        assert!(outcome.is_clean(), "{outcome:?}");
        assert_eq!((tally.crossed, tally.restarts), (0, 1), "{outcome:?}");
        assert!(outcome.unbroken.is_empty(), "{outcome:?}");
        for count in [tally.transactions, tally.rows, tally.clients_killed, tally.servers_killed] {
            assert!(count > 0, "{outcome:?}");
        }
        assert!(tally.cancels > 0 && tally.reconnects > 0, "{outcome:?}");
        proxy.stop().await;
    }
}

async fn crossings(proxy: &Proxy) -> Outcome {
    let superuser = proxy.database.superuser_url();
    run(&roads(proxy, [A, B], Some(&superuser)), plan(1, None)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_cross_are_counted() {
    for mode in MODES {
        let pool_mode = move |config: &mut cloison::config::Config| {
            config.pools.get_mut(&Access::Tenant).unwrap().mode = mode;
        };
        let proxy = proxy::new().pool_size(4).edit(pool_mode).run().await;
        let superuser = proxy.database.superuser().await;
        let lax = "alter policy cloison_tenant_select on public.note using (true)";
        superuser.batch_execute(lax).await.unwrap();
        let outcome = crossings(&proxy).await;
        assert!(outcome.tally.crossed > 0 && !outcome.is_clean(), "{mode:?} {outcome:?}");
        let told = &outcome.crossings;
        assert!(told.iter().all(|told| told.starts_with("public.note: tenant ")), "{told:?}");
        // Nothing of the rows themselves is told.
        assert!(told.iter().all(|told| !told.contains(A) && !told.contains(B)), "{told:?}");

        superuser.batch_execute("select cloison.protect('public.note')").await.unwrap();
        let outcome = crossings(&proxy).await;
        assert!(outcome.is_clean(), "{mode:?} {outcome:?}");
        proxy.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_broken_is_said() {
    let proxy = proxy::new().run().await;
    let roads = roads(&proxy, [A, B], None);
    let outcome = run(&roads, plan(1, Some("exit 3".to_owned()))).await;
    let told = &outcome.unbroken;
    assert!(told.iter().any(|told| told.contains("could not be ended")), "{told:?}");
    assert!(told.iter().any(|told| told.contains("exit status: 3")), "{told:?}");
    assert!(outcome.is_clean(), "{outcome:?}");

    // No rows, no proof.
    let superuser = proxy.database.superuser().await;
    superuser.batch_execute("delete from public.note").await.unwrap();
    let outcome = run(&roads, plan(1, None)).await;
    assert!(outcome.tally.transactions > 0 && !outcome.is_proof(), "{outcome:?}");
    let nowhere = Road::new("nobody", "postgres://x:y@127.0.0.1:1/x").unwrap();
    let roads = Roads { tenants: [nowhere.clone(), nowhere], ..roads };
    let refused = chaos::run(&roads, plan(1, None), std::future::pending(), &mut |_| {}).await;
    assert!(refused.is_err());
    proxy.stop().await;
}
