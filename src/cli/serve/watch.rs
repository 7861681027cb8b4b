//! The database under watch: no tenant is served while a lint has a critical finding.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{self, Control, ControlError, Target};
use crate::config::{Config, LintAction};
use crate::kit::lint::{self, Finding, Level};
use crate::observe::Event;
use crate::pool::Opening;
use crate::proxy::Shared;
use crate::shutdown::Shutdown;
use crate::tls;

/// So many times in a row may the lints fail to run before nobody knows how things stand.
const MOST_FAILURES: u32 = 3;

/// Longer than the lints may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);

/// What a look found: critical findings that nobody has accepted, by key.
pub(in crate::cli) type Standing = Result<BTreeMap<String, Finding>, LookError>;

/// What stands, as of the last look.
pub(in crate::cli) struct Watch {
    /// A connection of its own: its transactions must not hold up the questions of logins.
    control: Control,
    /// The roles that this proxy logs in as.
    logins: BTreeSet<String>,
    /// Critical findings that nobody has accepted, by key.
    standing: BTreeMap<String, Finding>,
    /// Looks that failed since the last that did not.
    failures: u32,
}

/// Why it is not known how things stand.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LookError {
    /// There is no connection.
    #[error("the control connection is not available")]
    Control(#[from] ControlError),
    /// They took too long.
    #[error("no answer within {0:?}")]
    Slow(Duration),
    /// A lint did not run.
    #[error(transparent)]
    Lint(#[from] lint::Error),
}

impl LookError {
    /// Whether Postgres is away for now.
    pub(in crate::cli) fn is_away(&self) -> bool {
        match self {
            Self::Control(error) => error.is_away(),
            Self::Slow(_) => true,
            Self::Lint(lint::Error::Statement { source, .. }) => backend::is_away(source),
            Self::Lint(_) => false,
        }
    }
}

impl Watch {
    pub(in crate::cli) fn new(config: &Config) -> Result<Self, tls::Error> {
        let timeout = config.limits.server_connect_timeout;
        let target = Target::new(&config.server, &config.control, timeout, config.keepalive)?;
        let pools = config.pools.values().map(|pool| &pool.login);
        let logins = pools.chain([&config.control]).map(|login| login.user.clone()).collect();
        let control = Control::new(target);
        Ok(Self { control, logins, standing: BTreeMap::new(), failures: 0 })
    }

    /// Takes the first look, which did not keep the proxy from starting.
    pub(super) fn begin(&mut self, looked: Standing, shared: &Shared) {
        if looked.is_err() {
            // There is no earlier look to go by.
            self.failures = MOST_FAILURES - 1;
        }
        self.take(looked, shared);
    }

    /// Looks again and again, and opens and shuts the door.
    pub(super) async fn go_on(mut self, shared: Arc<Shared>, mut shutdown: Shutdown) {
        let interval = shared.config.lint.interval;
        if interval.is_zero() {
            return;
        }
        loop {
            tokio::select! {
                () = shutdown.draining() => return,
                () = tokio::time::sleep(interval) => {}
            }
            let looked = tokio::select! {
                () = shutdown.draining() => return,
                looked = self.look() => looked,
            };
            self.take(looked, &shared);
        }
    }

    pub(in crate::cli) async fn look(&self) -> Standing {
        let look = async {
            let client = self.control.client().await?;
            Ok::<_, LookError>(lint::run(&client).await?)
        };
        let found = tokio::time::timeout(LOOK_TIMEOUT, look).await;
        let found = found.map_err(|_| LookError::Slow(LOOK_TIMEOUT))??.into_iter();
        let critical =
            found.filter(|finding| finding.counts(Level::Critical) && self.concerns_us(finding));
        Ok(critical.map(|finding| (finding.key.clone(), finding)).collect())
    }

    /// A login that no client of ours runs as is another proxy's to worry about.
    fn concerns_us(&self, finding: &Finding) -> bool {
        let login = finding.object.trim_matches('"').replace("\"\"", "\"");
        finding.name != "login_unfit" || self.logins.contains(&login)
    }

    fn take(&mut self, looked: Standing, shared: &Shared) {
        match looked {
            Ok(found) => {
                self.tell_changes(&found, shared);
                self.standing = found;
                self.failures = 0;
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let reason = match error.source() {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                };
                shared.observer.observe(Event::LintFailed { reason });
            }
        }
        let is_sound = self.standing.is_empty() && self.failures < MOST_FAILURES;
        shared.pools.door().set(match (is_sound, shared.config.lint.action) {
            (true, _) | (false, LintAction::Warn) => Opening::Open,
            (false, LintAction::Unready) => Opening::NoSessions,
            (false, LintAction::Refuse) => Opening::Shut,
        });
    }

    fn tell_changes(&self, found: &BTreeMap<String, Finding>, shared: &Shared) {
        for (key, finding) in found {
            if !self.standing.contains_key(key) {
                shared.observer.observe(Event::LintFound {
                    key: key.clone(),
                    detail: finding.detail.clone(),
                    fix: finding.fix.clone(),
                });
            }
        }
        for key in self.standing.keys().filter(|key| !found.contains_key(*key)) {
            shared.observer.observe(Event::LintCured { key: key.clone() });
        }
    }
}
