//! The tenants and the signing key, as the database knows them at this moment.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::auth::TenantClaim;
use crate::backend::{self, Control, ControlError};
use crate::config::TenantLookup;
use crate::recent::Recent;
use crate::types::{Access, TenantId};

use super::api_keys;
use super::audit::AuditRecord;
use super::bind::Signer;
use super::context::{self, Refusal};
use super::refusals::Refusals;

/// A row of `cloison.tenants`, as far as the proxy decides by it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tenant {
    /// The primary key.
    pub id: TenantId,
    /// Whether it may be served.
    pub status: Status,
}

/// `cloison.tenants.status`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Served.
    Active,
    /// Refused for now; its rows stay.
    Suspended,
    /// Refused for good; its rows stay.
    Archived,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Archived => "archived",
        })
    }
}

/// Why the database could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no control connection.
    #[error("the control connection is not available")]
    Control(#[from] ControlError),
    /// The control role's statement failed.
    #[error(
        "the control role's statement failed: is the kit of this version installed (`cloison install`), and is the role a member of cloison_control?"
    )]
    Query(#[from] tokio_postgres::Error),
    /// `cloison.tenants.status` has a value that this version does not know.
    #[error("tenant status {0:?} is not known to this version")]
    UnknownStatus(String),
}

impl Error {
    /// Whether Postgres is away for now.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Control(error) => error.is_away(),
            Self::Query(error) => backend::is_away(error),
            Self::UnknownStatus(_) => false,
        }
    }
}

/// So long an active tenant is known, by its name at login and by its id while its clients stay.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(5);
/// Names of tenants that are remembered at once.
const REMEMBERED: usize = 10_000;

/// Asks the database through the control connection.
pub struct Directory {
    control: Control,
    /// What is recorded has a connection of its own: who waits there for the end of the chain keeps
    /// no tenant waiting.
    audit: Control,
    signer: RwLock<Arc<Signer>>,
    /// Active tenants, and when they were looked up.
    known: Recent<TenantClaim, (Tenant, Instant)>,
    /// Active tenants with clients, and when they were asked for.
    confirmed: Recent<TenantId, Instant>,
    /// What tenants are called, and when that was asked for.
    pub(super) names: Recent<TenantId, (Arc<[String]>, Instant)>,
    /// Room for API keys to be looked up.
    pub(super) key_checks: Semaphore,
    /// What was refused to tenants, for the audit log.
    pub(super) refusals: Refusals,
    /// Counts how often both were forgotten.
    forgotten: AtomicU64,
}

impl Directory {
    /// Opens the control connection and reads the signing key.
    ///
    /// # Errors
    ///
    /// Fails when Postgres cannot be reached, or the kit is not installed.
    pub async fn open(control: Control) -> Result<Self, Error> {
        let signer = read_signer(&control).await?;
        let (known, confirmed) = (Recent::new(REMEMBERED), Recent::new(REMEMBERED));
        let names = Recent::new(REMEMBERED);
        let (signer, forgotten) = (RwLock::new(signer), AtomicU64::new(0));
        let key_checks = Semaphore::new(api_keys::AT_A_TIME);
        let audit = control.another();
        let refusals = Refusals::default();
        Ok(Self {
            control,
            audit,
            signer,
            known,
            confirmed,
            names,
            key_checks,
            refusals,
            forgotten,
        })
    }

    /// Forgets the tenants: some have changed. Answers that are on their way are not remembered.
    pub(super) fn forget(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
        self.known.clear();
        self.confirmed.clear();
        self.names.clear();
    }

    /// The connection that questions go through.
    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    /// The signer in force.
    pub fn signer(&self) -> Arc<Signer> {
        // The lock guards one assignment, which cannot panic half-way.
        Arc::clone(&self.signer.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Reads the signing key again, after a proof was refused that should have been good.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn renew_signer(&self) -> Result<Arc<Signer>, Error> {
        let signer = read_signer(&self.control).await?;
        let mut slot = self.signer.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = Arc::clone(&signer);
        Ok(signer)
    }

    /// Finds the tenant that a claim names, as it was a few seconds ago at most. Who relies on its
    /// status has to leave that to a bind.
    ///
    /// # Errors
    ///
    /// As [`Self::find_now`].
    pub async fn find(&self, claim: &TenantClaim) -> Result<Option<Tenant>, Error> {
        match self.known.get(claim) {
            Some((tenant, since)) if since.elapsed() < REMEMBERED_FOR => Ok(Some(tenant)),
            // Seldom, and large.
            Some(_) | None => Box::pin(self.find_now(claim)).await,
        }
    }

    /// Finds the tenant that a claim names: the first kind of lookup that finds one decides.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does. A tenant that is not there is `None`.
    pub async fn find_now(&self, claim: &TenantClaim) -> Result<Option<Tenant>, Error> {
        let (asked, forgotten) = (Instant::now(), self.forgotten.load(Ordering::Acquire));
        let found = self.ask(claim).await?;
        let is_fresh = forgotten == self.forgotten.load(Ordering::Acquire);
        match found {
            Some(tenant) if tenant.status == Status::Active && is_fresh => {
                self.known.insert(claim.clone(), (tenant, asked));
            }
            Some(_) | None => self.known.remove(claim),
        }
        Ok(found)
    }

    async fn ask(&self, claim: &TenantClaim) -> Result<Option<Tenant>, Error> {
        let value = claim.value();
        for lookup in claim.lookup() {
            let id = value.parse::<TenantId>().ok().map(|id| id.as_uuid());
            let (id, slug, key) = match (lookup, id) {
                (TenantLookup::Id, None) => continue,
                (TenantLookup::Id, Some(_)) => (id, None, None),
                (TenantLookup::Slug, _) => (None, Some(value), None),
                (TenantLookup::ExternalKey, _) => (None, None, Some(value)),
            };
            let found = self.find_by(id, slug, key).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Finds a tenant by one of its names; the others are none.
    async fn find_by(
        &self,
        id: Option<Uuid>,
        slug: Option<&str>,
        key: Option<&str>,
    ) -> Result<Option<Tenant>, Error> {
        let client = self.control.client().await?;
        let statement = include_str!("../../sql/control/find_tenant.sql");
        // With the types given there is one round trip.
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&id, Type::UUID), (&slug, Type::TEXT), (&key, Type::TEXT)];
        let row = client.query_typed_opt(statement, &parameters).await?;
        row.map(|row| {
            let status: String = row.try_get("status")?;
            let id = TenantId::new(row.try_get("id")?);
            Ok(Tenant { id, status: parse_status(status)? })
        })
        .transpose()
    }

    /// Whether a tenant may be served still, as of a few seconds ago at most: what a client that
    /// stays relies on from transaction to transaction.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does. In doubt nobody is served.
    pub async fn confirm(&self, tenant: TenantId) -> Result<Result<(), Refusal>, Error> {
        if self.confirmed.get(&tenant).is_some_and(|at| at.elapsed() < REMEMBERED_FOR) {
            return Ok(Ok(()));
        }
        // Seldom, and large.
        Box::pin(self.confirm_now(tenant)).await
    }

    /// Whether a tenant may be served still.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn confirm_now(&self, tenant: TenantId) -> Result<Result<(), Refusal>, Error> {
        let (asked, forgotten) = (Instant::now(), self.forgotten.load(Ordering::Acquire));
        let found = self.find_by(Some(tenant.as_uuid()), None, None).await?;
        let admitted = context::admit(found);
        match admitted {
            Ok(_) if forgotten == self.forgotten.load(Ordering::Acquire) => {
                self.confirmed.insert(tenant, asked);
            }
            Ok(_) | Err(_) => self.confirmed.remove(&tenant),
        }
        Ok(admitted.map(|_| ()))
    }

    /// Commits a record of a session that may see more than one tenant.
    ///
    /// # Errors
    ///
    /// Without the record there must be no session, and no statement is to be run.
    pub async fn record(&self, record: &AuditRecord) -> Result<(), Error> {
        let client = self.audit.client().await?;
        let statement = include_str!("../../sql/control/append_audit.sql");
        let AuditRecord { actor, action, tenant, session, detail } = record;
        let tenant = tenant.map(|tenant| tenant.as_uuid());
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (actor, Type::TEXT),
            (action, Type::TEXT),
            (&tenant, Type::UUID),
            (session, Type::TEXT),
            (detail, Type::JSONB),
        ];
        client.query_typed(statement, &parameters).await?;
        Ok(())
    }

    /// Gives records their places in the chain that have none yet: those that sessions of the
    /// database have written.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn chain_records(&self) -> Result<(), Error> {
        let client = self.audit.client().await?;
        let statement = include_str!("../../sql/control/chain_audit.sql");
        client.query_typed(statement, &[]).await?;
        Ok(())
    }

    /// Why `role` is not fit to serve `access`: pairs of problem and remedy.
    ///
    /// # Errors
    ///
    /// Fails as the control connection does.
    pub async fn role_findings(
        &self,
        role: &str,
        access: Access,
    ) -> Result<Vec<(String, String)>, Error> {
        let client = self.control.client().await?;
        let statement = include_str!("../../sql/control/role_findings.sql");
        let rows = client.query(statement, &[&role, &access.as_str()]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

async fn read_signer(control: &Control) -> Result<Arc<Signer>, Error> {
    let client = control.client().await?;
    let statement = include_str!("../../sql/control/signing_material.sql");
    let row = client.query_one(statement, &[]).await?;
    Ok(Arc::new(Signer::new(row.try_get("key")?, row.try_get("bind_process_id")?)))
}

fn parse_status(status: String) -> Result<Status, Error> {
    match status.as_str() {
        "active" => Ok(Status::Active),
        "suspended" => Ok(Status::Suspended),
        "archived" => Ok(Status::Archived),
        _ => Err(Error::UnknownStatus(status)),
    }
}
