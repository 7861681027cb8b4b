//! Transaction pooling: a client has a server connection for as long as a transaction lasts.
//!
//! The tenant is bound in each transaction, in the client's own pipeline and ahead of the first
//! statement that needs it ([`block`]). What the client sends goes out as extended-query messages
//! ([`simple`], [`named`]), so that each has one answer ([`due`]) and a bind that fails keeps the
//! statement from running.

mod again;
mod begun;
mod block;
mod copying;
mod deallocate;
mod departure;
mod due;
mod ending;
mod failure;
mod from_client;
mod from_server;
mod identity;
mod long;
mod memory;
mod moved;
mod named;
mod names;
mod parts;
mod portals;
mod preparing;
mod relay;
mod settling;
mod simple;
mod told;
mod touched;
mod tracked;
mod values;
mod watched;

use std::collections::BTreeSet;
use std::error::Error;
use std::future::poll_fn;
use std::sync::Arc;

use ending::Ending;
use moved::Step;
pub use names::Statements;
use relay::{Lent, Relay};

use self::settling::Settling;
use super::cancel::Registration;
use super::relay::End;
use super::{Common, Terms};
use crate::backend::Statuses;
use crate::pool::{Bound, Pool, Residue, SettingsError};
use crate::protocol::{ClientError, FrameStream, Severity, message};
use crate::shutdown::Shutdown;
use crate::statement;
use crate::tenant::Identity;
use crate::types::{SessionSettings, TenantId};

/// What a client brings along to every server connection that it gets.
pub struct Borrower {
    /// Where its server connections come from.
    pub pool: Arc<Pool>,
    /// The client keeps the one that it gets, until it is another tenant's (session pooling).
    pub keeps: bool,
    /// What they were started with.
    pub settings: Arc<SessionSettings>,
    /// What the client's startup asks for on top of that, and `RESET` goes back to.
    pub startup: Arc<SessionSettings>,
    /// What is set on top of that now.
    pub overrides: Arc<SessionSettings>,
    /// Of these, what a function has set, and the tenant that it was set for.
    assigned: BTreeSet<String>,
    assigned_for: Option<TenantId>,
    /// What the client has been told of the server's settings.
    pub told: Arc<Statuses>,
}

/// Serves an authenticated client; gives it back with the reason for the end, and whether it has
/// the beginning of a message whose end will not come.
pub(super) async fn run(
    client: Box<FrameStream>,
    borrower: Box<Borrower>,
    registration: &Registration,
    terms: &Terms,
    common: &Common<'_>,
    shutdown: Shutdown,
) -> (FrameStream, End, bool) {
    let ending = Ending::new(&terms.identity, shutdown);
    let mut relay = Relay::new(*client, common, terms, ending);
    relay.pins |= borrower.keeps;
    let mut session = Session { relay, borrower, registration, common };
    let end = session.serve().await;
    let is_amid = session.relay.is_amid_a_message();
    session.give_up(&end).await;
    let Session { relay, .. } = session;
    (relay.client, end, is_amid)
}

struct Session<'a> {
    relay: Relay<'a>,
    borrower: Box<Borrower>,
    registration: &'a Registration,
    common: &'a Common<'a>,
}

impl Session<'_> {
    async fn serve(&mut self) -> End {
        loop {
            let step = poll_fn(|cx| self.relay.poll(cx)).await;
            let done = match step {
                Step::NeedsServer => self.check_out().await,
                Step::Identify => Box::pin(self.identify()).await,
                Step::Rest => self.give_back().await,
                Step::Cancel => {
                    self.relay.tally.cancel();
                    self.registration.cancel_soon();
                    Ok(())
                }
                Step::Flush => {
                    self.relay.flush_server();
                    Ok(())
                }
                Step::End(end) => Err(end),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// Gets a server connection with the client's settings.
    async fn check_out(&mut self) -> Result<(), End> {
        let Self { relay, borrower, common, .. } = self;
        self.registration.wait();
        relay.in_band.myself.expire();
        let identity = relay.in_band.myself.acting.now().ok().map(Arc::clone);
        // A session that has lost its identity counts for who logged in.
        let login = Arc::clone(relay.in_band.myself.acting.login());
        let is_login = relay.in_band.myself.acting.is_plain();
        let identity = identity.as_deref();
        let assigned_for = borrower.drop_assigned(identity.and_then(Identity::tenant));
        let lent = {
            let borrowed = tokio::select! {
                biased;
                borrowed = borrower.borrow(common, identity, &login) => borrowed,
                end = poll_fn(|cx| relay.poll_waiting(cx)) => return Err(end),
            };
            match borrowed {
                Ok(bound) => Box::new(Lent::new(bound, borrower.keeps, common.limits.pipeline)),
                // Whom the client has named in band may be followed by somebody else.
                Err(NoServer::Unserved(_)) if !is_login => {
                    relay.in_band.myself.lose_tenant();
                    return Ok(());
                }
                Err(NoServer::Unserved(error) | NoServer::Other(error)) => {
                    return Err(End::Told(error));
                }
            }
        };
        relay.client.prepare_outgoing();
        borrower.tell(&lent.bound, &mut relay.client);
        let key = Arc::clone(lent.bound.server().key());
        let lent = relay.lent.insert(lent);
        lent.settling = Settling::new(common.pooling.keeps_plans);
        lent.assigned_for = assigned_for;
        relay.in_band.impress(lent);
        self.registration.hold(&key).await;
        Ok(())
    }

    /// Gives the server connection back after a transaction.
    async fn give_back(&mut self) -> Result<(), End> {
        // It stays where it is while we wait, so that there is no second place for it.
        let Self { relay, borrower, .. } = self;
        let Some(lent) = &mut relay.lent else { return Ok(()) };
        // A cancel request that is under way must not meet the next client's statement, nor ours.
        self.registration.let_go().await;
        if lent.discarded {
            borrower.overrides = Arc::clone(&borrower.startup);
        }
        if !lent.touched.is_empty() && Box::pin(borrower.keep_settings(lent)).await.is_err() {
            lent.dirty = true;
        }
        borrower.keep_assigned(lent);
        Box::pin(lent.settle_plans()).await;
        if lent.stale_plan {
            lent.bound.tables_changed();
        }
        let Some(mut lent) = relay.lent.take() else { return Ok(()) };
        let settings: usize =
            borrower.overrides.iter().map(|(name, value)| name.len() + value.len()).sum();
        relay.memory.settings = settings;
        let used = relay.names.bytes() + relay.in_band.asking.bytes() + settings;
        relay.memory.settle(used);
        if settings > relay.memory.limit() {
            // A function can set what no text shows, so it was not refused.
            let error = memory::exceeded(settings, relay.memory.limit());
            relay.lent = Some(lent);
            return Err(End::Told(ClientError { severity: Severity::Fatal, ..error }));
        }
        borrower.told = Arc::clone(lent.bound.server().statuses());
        let residue = Residue { ended: relay.ending.has_lost_leave(), ..lent.residue(false, 0) };
        let refused = lent.bind_refused;
        let again = lent.again.take();
        lent.bound.release_soon(residue);
        relay.sent_again = again.is_some();
        if let Some(mut messages) = again {
            messages.unsplit(relay.client.incoming.split());
            relay.client.incoming = messages;
        }
        if refused {
            // The key may have been changed; if the database cannot be asked, the next bind says so.
            let _ = Box::pin(self.common.directory.renew_signer()).await;
        }
        Ok(())
    }

    /// Gives the server connection back in whatever state the session has left it.
    async fn give_up(&mut self, end: &End) {
        let Some(lent) = &self.relay.lent else { return };
        let lost = matches!(end, End::ServerLost | End::ServerSaidWhy);
        let residue = lent.residue(lost, self.relay.from_client.bytes);
        let residue = Residue { ended: self.relay.ending.has_lost_leave(), ..residue };
        let running = residue.pending > 0 && !lost;
        self.registration.end_hold(running).await;
        if let Some(lent) = self.relay.lent.take() {
            lent.bound.release_soon(residue);
        }
    }
}

/// Why there is no server connection.
enum NoServer {
    /// The tenant may not be served.
    Unserved(ClientError),
    Other(ClientError),
}

impl Borrower {
    /// A client that has set nothing but what its startup asks for: `overrides`.
    pub fn new(
        pool: Arc<Pool>,
        keeps: bool,
        settings: Arc<SessionSettings>,
        overrides: Arc<SessionSettings>,
        told: Arc<Statuses>,
    ) -> Self {
        let startup = Arc::clone(&overrides);
        let (assigned, assigned_for) = (BTreeSet::new(), None);
        Self { pool, keeps, settings, startup, overrides, assigned, assigned_for, told }
    }

    /// Checks a server connection out and applies the client's settings.
    async fn borrow(
        &self,
        common: &Common<'_>,
        identity: Option<&Identity>,
        login: &Identity,
    ) -> Result<Bound, NoServer> {
        if let Some(tenant) = identity.and_then(Identity::tenant) {
            match common.directory.confirm(tenant).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => return Err(NoServer::Unserved(refusal.into())),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "a tenant could not be confirmed");
                    return Err(NoServer::Other(super::cannot_ask()));
                }
            }
        }
        let mut attempts = 2;
        let patience = self.pool.patience();
        loop {
            attempts -= 1;
            let share = match identity.unwrap_or(login).member() {
                Some(member) => member.server(patience).await.map_err(NoServer::Other)?,
                None => None,
            };
            let checkout = self.pool.checkout(&self.settings, patience, login.access()).await;
            let checkout = checkout.map_err(|error| NoServer::Other((&error).into()))?;
            let mut bound = checkout.bind_late(identity, common.directory.signer());
            if let Some(share) = share {
                bound.count_for_tenant(share);
            }
            if bound.has(&self.overrides) {
                return Ok(bound);
            }
            match Box::pin(bound.apply(&self.overrides)).await {
                Ok(()) => return Ok(bound),
                // It is closed; another one may be better.
                Err(_) if attempts > 0 => {}
                Err(error) => return Err(NoServer::Other((&error).into())),
            }
        }
    }

    /// Tells the client which settings this server reports, where it believes others.
    fn tell(&mut self, bound: &Bound, client: &mut FrameStream) {
        let statuses = bound.server().statuses();
        if Arc::ptr_eq(&self.told, statuses) {
            return;
        }
        for (name, value) in statuses.iter() {
            if self.told.get(name) != Some(value) {
                message::parameter_status(name, value, &mut client.outgoing);
            }
        }
        self.told = Arc::clone(statuses);
    }

    /// Asks the server for the settings that the client's statements have changed, so that they
    /// are the client's on every other server, too.
    async fn keep_settings(&mut self, lent: &mut Lent) -> Result<(), ()> {
        let mut names: Vec<String> = lent.touched.take();
        names.retain(|name| !PASSING.contains(&name.as_str()));
        let can_be_kept = |name: &String| {
            !name.starts_with("cloison.") && (is_role(name) || statement::can_be_followed(name))
        };
        if !names.iter().all(can_be_kept) {
            return Err(());
        }
        // A cancel request that was meant for the client's statement may come late.
        let mut attempts = 3;
        self.overrides = loop {
            attempts -= 1;
            match lent.bound.read_overrides(&names).await {
                Ok(overrides) => break overrides,
                Err(SettingsError::Refused { sqlstate, .. })
                    if sqlstate == QUERY_CANCELED && attempts > 0 => {}
                Err(_) => return Err(()),
            }
        };
        // The server knows nothing of these, and goes back to its own.
        for (name, value) in self.startup.iter() {
            if self.overrides.value(name).is_none_or(str::is_empty) {
                Arc::make_mut(&mut self.overrides).set(name.to_owned(), value.to_owned());
            }
        }
        Ok(())
    }
}

/// The SQLSTATE of a statement that was cancelled.
const QUERY_CANCELED: &str = "57014";

/// Settings that end with the transaction, or have no value to be set again.
const PASSING: [&str; 4] =
    ["seed", "transaction_deferrable", "transaction_isolation", "transaction_read_only"];

/// By `SET` a client may change its role, where it has others.
fn is_role(name: &str) -> bool {
    matches!(name, "role" | "session_authorization")
}
