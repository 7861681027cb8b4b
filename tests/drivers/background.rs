//! Other clients of other tenants, which keep the server connections of a pool moving.
//!
//! A client that is alone gets the same server connection each time, and so would notice nothing
//! of what a pooler loses or mixes up. These take them by turns, and leave every session in
//! another state.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_postgres::{Client, Error, NoTls};
use uuid::Uuid;

use crate::stand::C;

/// What a client of the background leaves of its own between its transactions.
const CHANGES: [&str; 10] = [
    "set timezone = 'Pacific/Auckland'",
    "set datestyle = 'SQL, DMY'",
    "set statement_timeout = '77s'",
    "set search_path = pg_catalog",
    "set application_name = 'background'",
    "set intervalstyle = iso_8601; set bytea_output = escape",
    "set default_transaction_isolation = 'repeatable read'",
    "set client_min_messages = error",
    "select set_config('jit', 'off', false)",
    "reset all",
];

/// The clients in their thread, for as long as the tests run.
pub(crate) struct Background {
    transactions: Arc<AtomicUsize>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Background {
    /// Starts a client for each pair of a tenant and a URL.
    pub(crate) fn start(databases: [String; 2], clients: Vec<(&'static str, String)>) -> Self {
        let transactions = Arc::new(AtomicUsize::new(0));
        let failure = Arc::new(Mutex::new(None));
        let background =
            Self { transactions: Arc::clone(&transactions), failure: Arc::clone(&failure) };
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let ended = runtime.block_on(async {
                for database in &databases {
                    make_third_tenant(database).await?;
                }
                let clients = clients.iter().map(|(id, url)| work(id, url, &transactions));
                futures_util::future::try_join_all(clients).await.map(drop)
            });
            let told = ended.err().map(|error| error.to_string());
            *failure.lock().unwrap() = Some(told.unwrap_or_else(|| "it has ended".to_owned()));
        });
        background
    }

    pub(crate) fn transactions(&self) -> usize {
        self.transactions.load(Ordering::Relaxed)
    }

    /// Checks that all clients are well, and have worked since there were so many transactions.
    #[track_caller]
    pub(crate) fn assert_well(&self, before: usize) {
        let failure = self.failure.lock().unwrap().clone();
        assert_eq!(failure, None, "the clients of the background");
        assert!(self.transactions() > before, "the background stands still");
    }
}

/// Why a client of the background gives up.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn make_third_tenant(postgres: &str) -> Result<(), BoxError> {
    let client = connect(postgres).await?;
    client
        .batch_execute(&format!(
            "insert into cloison.tenants (id, slug, name) values ('{C}', 'third', 'Third');
            insert into projects (tenant_id, name) select '{C}', 'third ' || generate_series(1, 3)"
        ))
        .await?;
    Ok(())
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Transaction after transaction, each with a look at its rows.
async fn work(tenant: &str, url: &str, transactions: &AtomicUsize) -> Result<(), BoxError> {
    let own: Uuid = tenant.parse()?;
    loop {
        let mut client = connect(url).await?;
        // It gets the driver's name s0, as the statements of the clients under test do.
        let text = format!("select tenant_id, '{tenant}' from public.projects where $1");
        let statement = client.prepare(&text).await?;
        for round in 0..100 {
            let work = client.transaction().await?;
            for row in work.query(&statement, &[&true]).await? {
                let seen: Uuid = row.get(0);
                if seen != own || row.get::<_, &str>(1) != tenant {
                    return Err(format!("{tenant} has got a row of {seen}").into());
                }
            }
            // Somebody else has to take another server connection meanwhile.
            tokio::time::sleep(Duration::from_millis(round % 4)).await;
            work.commit().await?;
            let change = CHANGES.get(usize::try_from(round)? % CHANGES.len()).unwrap_or(&"");
            client.batch_execute(change).await?;
            transactions.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(round % 3)).await;
        }
    }
}
