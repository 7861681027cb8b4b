//! VERIFY: tries, through the proxy and as two tenants, everything that isolation forbids.
//!
//! What it finds is an outcome, never an error; errors are what keeps it from trying. Whatever it
//! writes is in transactions that are rolled back, but for a row in each table in which a tenant has
//! none, which it removes at the end. So the database is left as it was, but for the audit log, which
//! tells of the super-admin's session, and for sequences.

mod attack;
mod catalogue;
pub mod chaos;
mod check;
mod forge;
mod probe;
mod report;
mod road;
mod samples;
mod session;
mod shape;
mod superadmin;
mod tenant;
mod wire;

use std::collections::BTreeMap;

pub use self::catalogue::TenantName;
pub use self::check::{Attack, Check, Layer, Owasp, Section};
pub use self::report::{Conclusion, Outcome, Report, Side, Standing, Tally, Verdict};
pub use self::road::Road;

use self::attack::Foray;
use self::catalogue::{Counts, Table, Tenant};
use self::probe::Probes;
use self::session::{Session, told};
use self::tenant::Trial;
use crate::tls::UrlError;

/// The ways that the suite goes.
#[derive(Clone, Debug)]
pub struct Roads {
    /// Through the proxy, as two tenants.
    pub tenants: [Road; 2],
    /// Through the proxy, as the super-admin.
    pub superadmin: Road,
    /// Straight to the database, as somebody who sees all rows. Without it the super-admin has to
    /// do, once it has enabled its mode.
    pub operator: Option<Road>,
}

/// Whether rows are made where a tenant has none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeRows {
    /// They are made, committed, and removed at the end.
    Make,
    /// What needs rows is skipped where there are none.
    Without,
}

/// Why nothing, or not everything, could be tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Policies do not hold for the role, so nothing that it sees would prove anything.
    #[error(
        "the session of {who} runs as {role}, which {why}: row security does not hold for it, and \
         nothing that it sees would prove anything; leave {role} as it is, and give the road a \
         role of its own that is a member of the kit's group for it"
    )]
    Bypasses {
        /// Whose session.
        who: String,
        /// Its role.
        role: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A road leads nowhere.
    #[error("could not connect as {who}: {why}")]
    Connect {
        /// As whom.
        who: String,
        /// Why not.
        why: String,
    },
    /// The operator looks at something else than the tenants do.
    #[error("the operator's connection and the proxy lead to different databases")]
    DifferentDatabases,
    /// Somebody stopped it.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
    /// No table is protected.
    #[error("no table is protected, so there is nothing to verify: select cloison.protect('…')")]
    NoTables,
    /// A session without a tenant.
    #[error(
        "the session of {who} is bound to no active tenant: its URL has to lead through the proxy, \
         with a tenant's token as its password"
    )]
    NoTenant {
        /// Whose session.
        who: String,
    },
    /// Rows that the suite made are still there.
    #[error("probe rows could not be removed, the tables' owner has to: {rows}{before}")]
    ProbesLeft {
        /// The tables, and what tells the rows from others.
        rows: String,
        /// What had gone wrong before.
        before: String,
    },
    /// Two names for one tenant prove nothing.
    #[error("both URLs are of the same tenant, {0}: two tenants are needed")]
    SameTenant(String),
    /// Postgres refused what is no check.
    #[error("could not {doing} as {who}: {why}")]
    Statement {
        /// As whom.
        who: String,
        /// What was tried, as a verb.
        doing: &'static str,
        /// Postgres' answer.
        why: String,
    },
    /// TLS to the proxy was demanded, which this verb does not speak.
    #[error(
        "TLS is not supported on the way to the proxy: run it beside the proxy, over loopback, \
         without sslmode"
    )]
    Tls,
    /// The URL cannot be read. It is not repeated: it holds a token.
    #[error("the URL of {0} cannot be read")]
    Url(String),
    /// Its options cannot be used.
    #[error("the URL of {0} cannot be used")]
    Options(String, #[source] UrlError),
}

impl Error {
    fn statement(who: &str, doing: &'static str, error: &tokio_postgres::Error) -> Self {
        Self::Statement { who: who.to_owned(), doing, why: told(error) }
    }
}

/// Tries everything. `progress` is told what comes next.
///
/// It gives up once `stopped` is done. Dropping the future instead may leave probe rows behind.
///
/// # Errors
///
/// Something kept it from trying.
pub async fn run(
    roads: &Roads,
    probe_rows: ProbeRows,
    stopped: impl Future<Output = ()>,
    progress: &mut dyn FnMut(&str),
) -> Result<Report, Error> {
    progress("looking around");
    let ran = superadmin::ran(&roads.superadmin).await;
    let superadmin = Session::open(&roads.superadmin).await?;
    let superadmin_login = catalogue::fit_role(&superadmin, "the super-admin").await?;
    let operator = match &roads.operator {
        Some(road) => Some(Session::open(road).await?),
        None => None,
    };
    let tables = catalogue::tables(operator.as_ref().unwrap_or(&superadmin)).await?;
    if tables.is_empty() {
        return Err(Error::NoTables);
    }
    let tenants = tenants(roads).await?;
    if let Some(operator) = &operator
        && catalogue::database(operator).await? != catalogue::database(&superadmin).await?
    {
        return Err(Error::DifferentDatabases);
    }
    let before = superadmin::before(&superadmin, &tables).await?;
    superadmin.query("enable its mode", "select cloison.enable_superadmin_mode()", &[]).await?;

    let mut suite = Suite {
        operator: operator.as_ref().unwrap_or(&superadmin),
        superadmin: &superadmin,
        superadmin_login,
        roads,
        tenants,
        tables: Vec::new(),
        outcomes: Vec::new(),
    };
    suite.count(tables).await?;
    let mut probes = [Probes::default(), Probes::default()];
    let made = match probe_rows {
        ProbeRows::Make => suite.make_probes(&mut probes).await,
        ProbeRows::Without => Ok(()),
    };
    let tried = match made {
        Ok(()) => tokio::select! {
            tried = suite.try_all(before, ran, progress) => tried,
            () = stopped => Err(Error::Interrupted),
        },
        Err(error) => Err(error),
    };
    progress("tidying up");
    let mut left = Vec::new();
    for ((probes, road), tenant) in probes.iter_mut().zip(&roads.tenants).zip(&suite.tenants) {
        left.extend(probes.remove(road, tenant, operator.as_ref()).await);
    }
    if !left.is_empty() {
        let before =
            tried.err().map_or_else(String::new, |error| format!("; before that: {error}"));
        return Err(Error::ProbesLeft { rows: left.join(", "), before });
    }
    tried?;
    let Suite { tenants: [a, b], tables, outcomes, .. } = suite;
    let tables = tables.into_iter().map(|(table, _)| table.name).collect();
    superadmin.close().await;
    Ok(Report { tenants: [a.name, b.name], tables, outcomes })
}

/// Who the two tenants are: two, and none of them above the policies.
async fn tenants(roads: &Roads) -> Result<[Tenant; 2], Error> {
    let [a, b] = &roads.tenants;
    let session = Session::open(a).await?;
    let a = catalogue::tenant(&session, Side::A).await;
    // One at a time: the pool may have one connection for all tenants.
    session.close().await;
    let a = a?;
    let session = Session::open(b).await?;
    let b = catalogue::tenant(&session, Side::B).await;
    session.close().await;
    let b = b?;
    if a.id == b.id { Err(Error::SameTenant(a.name.slug)) } else { Ok([a, b]) }
}

/// The active tenants that have rows in protected tables, those in most tables first.
///
/// # Errors
///
/// The operator's connection fails.
pub async fn candidates(operator: &Road) -> Result<Vec<TenantName>, Error> {
    let session = Session::open(operator).await?;
    let tables = catalogue::tables(&session).await?;
    let mut tenants = catalogue::active_tenants(&session).await?;
    for (tenant, places) in &mut tenants {
        for table in tables.iter().filter(|table| table.is_tenants()) {
            if catalogue::has_rows(&session, table, tenant).await? {
                *places += 1;
            }
        }
    }
    session.close().await;
    tenants.sort_by_key(|(_, places)| std::cmp::Reverse(*places));
    Ok(tenants.into_iter().map(|(tenant, _)| tenant.name).collect())
}

/// Everything that the checks need, and what they have come to.
struct Suite<'a> {
    operator: &'a Session,
    superadmin: &'a Session,
    superadmin_login: String,
    roads: &'a Roads,
    tenants: [Tenant; 2],
    tables: Vec<(Table, Option<Counts>)>,
    outcomes: Vec<Outcome>,
}

impl Suite<'_> {
    async fn count(&mut self, tables: Vec<Table>) -> Result<(), Error> {
        self.tables.clear();
        for table in tables {
            let counts = catalogue::counts(self.operator, &table, &self.tenants).await?;
            self.tables.push((table, counts));
        }
        Ok(())
    }

    async fn make_probes(&mut self, probes: &mut [Probes; 2]) -> Result<(), Error> {
        for ((probes, road), tenant) in
            probes.iter_mut().zip(&self.roads.tenants).zip(&self.tenants)
        {
            probes.make(road, tenant, self.operator, &mut self.tables).await?;
        }
        let tables = self.tables.drain(..).map(|(table, _)| table).collect();
        self.count(tables).await
    }

    async fn try_all(
        &mut self,
        before: BTreeMap<String, Verdict>,
        ran: superadmin::Ran,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let [road_a, road_b] = &self.roads.tenants;
        self.try_tenant(road_a, Side::A, progress).await?;
        self.try_tenant(road_b, Side::B, progress).await?;
        progress("super-admin");
        let after = superadmin::after(self.superadmin, &self.tables, &self.tenants, before).await?;
        for (subject, verdict) in after {
            self.put(subject, Check::Superadmin, None, verdict);
        }
        for (subject, verdict) in superadmin::permits(self.superadmin, self.operator).await? {
            self.put(subject, Check::Attack(&superadmin::PERMIT), None, verdict);
        }
        let verdict = superadmin::recorded(self.superadmin, ran).await?;
        self.put("session".to_owned(), Check::Attack(&superadmin::RECORD), None, verdict);
        progress("policies");
        self.try_catalogue().await
    }

    async fn try_tenant(
        &mut self,
        road: &Road,
        side: Side,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(), Error> {
        let tenants = self.tenants.clone();
        let [a, b] = &tenants;
        let (own, other) = match side {
            Side::A => (a, b),
            Side::B => (b, a),
        };
        let session = Session::open(road).await?;
        let trial =
            Trial { session: &session, operator: self.operator, tenants: &tenants, own, other };
        for (table, counts) in self.tables.clone() {
            progress(&format!("tenant {side}: {}", table.name));
            for (check, verdict) in trial.table(&table, counts).await? {
                self.put(table.name.clone(), check, Some(side), verdict);
            }
        }
        session.close().await;
        progress(&format!("tenant {side}: forging"));
        for (subject, check, verdict) in forge::forge(road, &self.tables, own, other).await? {
            self.put(subject, check, Some(side), verdict);
        }
        let other_road = match side {
            Side::A => &self.roads.tenants[1],
            Side::B => &self.roads.tenants[0],
        };
        let foray = Foray {
            road,
            other_road,
            own,
            other,
            operator: self.operator,
            tables: &self.tables,
            has_pairs: true,
            found: Vec::new(),
        };
        for (subject, attack, side, verdict) in attack::all(foray, progress).await? {
            self.put(subject, Check::Attack(attack), Some(side), verdict);
        }
        Ok(())
    }

    /// A weakness counts even where no row comes through it.
    async fn try_catalogue(&mut self) -> Result<(), Error> {
        let mut logins = BTreeMap::from([(self.superadmin_login.clone(), "superadmin")]);
        logins.extend(self.tenants.iter().map(|tenant| (tenant.login.clone(), "tenant")));
        let findings = catalogue::findings(self.operator, &logins).await?;
        let subjects = self.tables.iter().map(|(table, _)| table.name.clone());
        let subjects = subjects.chain(logins.keys().map(|login| format!("login {login}")));
        for subject in subjects.collect::<Vec<_>>() {
            if !findings.iter().any(|finding| finding.subject == subject) {
                self.put(subject, Check::Policies, None, Verdict::HELD);
            }
        }
        for finding in findings {
            let verdict = Verdict::failed(finding.problem, finding.fix);
            self.put(finding.subject, Check::Policies, None, verdict);
        }
        Ok(())
    }

    fn put(&mut self, subject: String, check: Check, tenant: Option<Side>, verdict: Verdict) {
        self.outcomes.push(Outcome { subject, check, tenant, verdict });
    }
}
