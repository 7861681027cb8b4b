//! `cloison dev`: everything on one machine, from a Postgres to URLs that can be pasted.

pub(super) mod report;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use self::report::{Report, TenantUrl};
use super::serve;
use crate::config;
use crate::dev::binaries;
use crate::dev::cluster::{self, Cluster};
use crate::dev::key::{self, SigningKey};
use crate::dev::logins::{self, Logins};
use crate::dev::setup::{self, BoxError, Database, Sample, Tenant};
use crate::dev::state::State;
use crate::dev::{self, Wishes};
use crate::observe::Observer;

/// Everything on this machine: a Postgres, the kit, sample tenants, a key, the proxy.
///
/// Without --database-url a private Postgres is started in the data folder. What is in it is still
/// there the next time.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Use this Postgres instead of a private one; its user is a superuser, or owns the database
    /// and has CREATEROLE. Gets the kit and three logins, and no sample tables
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
    /// Put the sample application into the database of --database-url too
    #[arg(long, requires = "database_url")]
    sample: bool,
    /// Where clients connect; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6432")]
    listen: SocketAddr,
    /// Where the private Postgres and the key are kept [default: $CLOISON_DATA_DIR,
    /// /var/lib/cloison/dev for root, ~/.local/share/cloison/dev]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// When a server connection goes back to the pool
    #[arg(long, value_name = "MODE")]
    pool_mode: Option<String>,
    /// Whether tenants' statements are held to a list: on, the default, or off
    #[arg(long, value_name = "SWITCH")]
    statement_filter: Option<String>,
    /// Most server connections of each pool
    #[arg(long, value_name = "N")]
    pool_size: Option<usize>,
    /// Leave to tenants what hardening takes from them
    #[arg(long, conflicts_with = "allow")]
    no_harden: bool,
    /// Let tenants have this in spite of hardening, as with `cloison install`; can be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    allow: Vec<String>,
    /// Print one line of JSON on stdout, once clients can connect
    #[arg(long)]
    json: bool,
}

/// Why `cloison dev` gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Postgres to run.
    #[error(transparent)]
    Binaries(#[from] binaries::Error),
    /// The system's clock is impossible.
    #[error("the clock is before 1970")]
    Clock,
    /// The private Postgres does not start.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// A wish that the proxy cannot fulfil.
    #[error(transparent)]
    Config(#[from] config::Errors),
    /// A file in the data folder.
    #[error("could not write {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The work was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The signing key.
    #[error(transparent)]
    Key(#[from] key::Error),
    /// The passwords.
    #[error(transparent)]
    Logins(#[from] logins::Error),
    /// stdout is closed.
    #[error("could not print the URLs: {0}")]
    Print(#[source] io::Error),
    /// The proxy does not serve.
    #[error("{}", .0.report())]
    Serve(#[from] serve::Error),
    /// The database could not be prepared.
    #[error(transparent)]
    Setup(#[from] setup::Error),
}

/// Prepares everything, serves, and stops everything when told to.
///
/// # Errors
///
/// Whatever keeps the proxy from serving.
pub async fn run(args: Args) -> Result<ExitCode, Error> {
    let wishes = Wishes {
        listen: args.listen,
        pool_mode: args.pool_mode.clone(),
        statement_filter: args.statement_filter.clone(),
        pool_size: args.pool_size,
    };
    wishes.check()?;
    let prepared = tokio::select! {
        prepared = Prepared::new(&args) => prepared?,
        stopped = serve::until_signalled() => {
            stopped?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let config =
        dev::proxy_config(&prepared.database, &prepared.logins, &prepared.files.jwks, &wishes)?;
    let _log = crate::observe::log::init(&config.log).map_err(serve::Error::from)?;
    let running = serve::start(config, Observer::new()).await?;
    let listen = running.tcp_address().unwrap_or(args.listen);
    let report = prepared.report(listen)?;
    prepared.tell_other_verbs(listen)?;
    for (path, url) in report.files() {
        let written = crate::files::write_private(&path, format!("{url}\n").as_bytes());
        written.map_err(|source| Error::File { path, source })?;
    }
    let mut stdout = io::stdout().lock();
    let printed = if args.json { report.json(&mut stdout) } else { report.text(&mut stdout) };
    drop(stdout);
    printed.map_err(Error::Print)?;

    running.until_signalled().await?;
    running.stop().await;
    // A file that stays is no worse than one after a power failure.
    let _ = fs::remove_file(&prepared.files.state);
    if let Some(cluster) = prepared.cluster {
        cluster.stop().await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything that the proxy needs, ready to be served.
struct Prepared {
    /// The private Postgres, if it is one.
    cluster: Option<Cluster>,
    database: Database,
    logins: Logins,
    tenants: Vec<Tenant>,
    /// The direct connection, for people who want to look behind the proxy.
    postgres_url: String,
    key: SigningKey,
    files: Files,
}

/// Where the keys are, and what other verbs read.
struct Files {
    signing_key: PathBuf,
    jwks: PathBuf,
    state: PathBuf,
}

impl Prepared {
    async fn new(args: &Args) -> Result<Self, Error> {
        let harden = async |client: &tokio_postgres::Client| harden(client, args).await;
        let folder = args.data_dir.clone().unwrap_or_else(dev::default_data_dir);
        match &args.database_url {
            Some(url) => {
                let folder = make_folder(&folder)?;
                let mut logins = Logins::load_or_choose(&folder.join(LOGINS))?;
                let sample = if args.sample { Sample::With } else { Sample::Without };
                let (database, client) =
                    setup::existing(url, &mut logins, sample, install, harden).await?;
                let tenants = setup::tenants(&client).await?;
                let (key, files) = make_key(&folder)?;
                let postgres_url = url.clone();
                Ok(Self { cluster: None, database, logins, tenants, postgres_url, key, files })
            }
            None => Self::private(&folder, harden).await,
        }
    }

    async fn private(
        folder: &Path,
        harden: impl AsyncFn(&tokio_postgres::Client) -> Result<(), BoxError>,
    ) -> Result<Self, Error> {
        // It may take minutes, and asks other programs all the time.
        let found = tokio::task::spawn_blocking(binaries::find_or_install).await;
        found.map_err(|_| Error::Interrupted)??;
        let postgres = folder.join("postgres");
        eprintln!("==> starting a private Postgres in {}", postgres.display());
        let cluster = Cluster::builder().data_dir(postgres).start().await?;
        eprintln!("==> installing the kit and two sample tenants, unless they are there");
        let folder = make_folder(folder)?;
        let logins = Logins::load_or_choose(&folder.join(LOGINS))?;
        let (database, client) = setup::private(&cluster, &logins, install, harden).await?;
        let tenants = setup::tenants(&client).await?;
        let (key, files) = make_key(&folder)?;
        let postgres_url = format!(
            "postgres://{}:{}@{}:{}/{}",
            cluster.superuser(),
            cluster.superuser_password(),
            cluster.host(),
            cluster.port(),
            database.name,
        );
        let cluster = Some(cluster);
        Ok(Self { cluster, database, logins, tenants, postgres_url, key, files })
    }

    /// Leaves a note for `cloison verify`.
    fn tell_other_verbs(&self, listen: SocketAddr) -> Result<(), Error> {
        let state = State {
            listen: listen.to_string(),
            database: self.database.name.clone(),
            postgres_url: self.postgres_url.clone(),
        };
        let path = &self.files.state;
        state.save(path).map_err(|source| Error::File { path: path.clone(), source })
    }

    /// What to tell, once the proxy listens on `listen`.
    fn report(&self, listen: SocketAddr) -> Result<Report, Error> {
        let database = report::percent_encoded(&self.database.name);
        let url =
            |user: &str, token: String| format!("postgres://{user}:{token}@{listen}/{database}");
        let tenants = self.tenants.iter().map(|tenant| {
            let mut claims = claims("cloison dev", dev::AUDIENCE)?;
            claims.insert("tenant_id".to_owned(), json!(tenant.id.to_string()));
            Ok(TenantUrl {
                slug: tenant.slug.clone(),
                id: tenant.id.to_string(),
                url: url(&self.logins.tenant.user, self.key.mint(&claims)?),
                name: tenant.name.clone(),
            })
        });
        let tenants = tenants.collect::<Result<_, Error>>()?;
        let mut superadmin = claims("cloison dev super-admin", dev::SUPERADMIN_AUDIENCE)?;
        superadmin.insert("reason".to_owned(), "cloison dev".into());
        let owner = claims("cloison dev owner", dev::OWNER_AUDIENCE)?;
        let mut service = claims("cloison dev service", dev::AUDIENCE)?;
        service.insert("tenants".to_owned(), "*".into());
        Ok(Report {
            listen: listen.to_string(),
            tenants,
            superadmin_url: url("cloison_superadmin", self.key.mint(&superadmin)?),
            owner_url: url("cloison_owner", self.key.mint(&owner)?),
            postgres_url: self.postgres_url.clone(),
            issuer: dev::ISSUER,
            audience: dev::AUDIENCE,
            algorithm: "ES256",
            jwks: self.files.jwks.clone(),
            signing_key: self.files.signing_key.clone(),
            service_url: url(&self.logins.tenant.user, self.key.mint(&service)?),
            folder: self.files.signing_key.parent().map(Path::to_owned).unwrap_or_default(),
        })
    }
}

/// Installs the kit, with the names that the fourth seed's application uses.
async fn install(client: &tokio_postgres::Client) -> Result<(), BoxError> {
    crate::kit::migrate::install(client, &[crate::kit::migrate::Compat::Public], |_| ()).await?;
    Ok(())
}

/// Hardens the database, and says on standard error what could not be done.
async fn harden(client: &tokio_postgres::Client, args: &Args) -> Result<(), BoxError> {
    if args.no_harden {
        return Ok(());
    }
    let report = crate::kit::harden::harden(client, &args.allow).await?;
    if report.open() > 0 {
        eprintln!("{report}");
    }
    Ok(())
}

fn make_folder(folder: &Path) -> Result<PathBuf, Error> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::canonicalize(folder))
        .map_err(|source| Error::File { path: folder.to_owned(), source })
}

/// The signing key, made the first time, and its public half for whoever verifies.
fn make_key(folder: &Path) -> Result<(SigningKey, Files), Error> {
    let files = Files {
        signing_key: folder.join(dev::SIGNING_KEY),
        jwks: folder.join(dev::JWKS),
        state: folder.join(dev::STATE),
    };
    let key = SigningKey::load_or_generate(&files.signing_key)?;
    fs::write(&files.jwks, format!("{:#}\n", key.jwks()))
        .map_err(|source| Error::File { path: files.jwks.clone(), source })?;
    Ok((key, files))
}

/// The claims that every development token has.
pub(super) fn claims(subject: &str, audience: &str) -> Result<Map<String, Value>, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| Error::Clock)?;
    let claims = [
        ("iss", json!(dev::ISSUER)),
        ("aud", json!(audience)),
        ("sub", json!(subject)),
        ("iat", json!(now.as_secs())),
        ("exp", json!((now + TOKEN_LIFE).as_secs())),
        ("jti", json!(uuid::Uuid::new_v4().to_string())),
    ];
    Ok(claims.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

/// File name of the passwords in the data folder.
const LOGINS: &str = "logins.json";

/// Long enough for a working day.
const TOKEN_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
