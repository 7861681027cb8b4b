//! RELAY: one client after authentication.

mod acting;
mod answer;
mod asked;
mod cancel;
mod cancel_limit;
mod copy_in;
mod exchange;
mod filter;
mod hint;
mod identity;
mod memory;
mod record;
mod refused;
mod relay;
mod tally;
mod transaction;
mod values;
mod watch;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use crate::backend::Statuses;
use crate::config::{TenantLimits, TransactionPooling};
use crate::guard::Guard;
use crate::observe::{Event, Observer};
use crate::pool::{Bound, Residue};
use crate::protocol::message::{self, TransactionStatus};
use crate::protocol::{ClientError, FrameStream};
use crate::shutdown::Shutdown;
use crate::tenant::{Directory, Identities, Identity, Scope};
use crate::types::SessionId;

use cancel::Registration;
pub use cancel::{Cancels, Outcome};
pub use record::Recorder;
use relay::{End, Relay};
pub use transaction::{Borrower, Statements};
use watch::{Exceeded, Watch};

/// So long may a client take to accept the last words.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// So long may a tenant's transaction go on whose token was revoked, or whose tenant is not served any
/// more. Super-admins and the owner have no such time.
const REVOKED_GRACE: Duration = Duration::from_secs(15);
/// The same of a token that has ended by itself: what it began is often long.
const EXPIRED_GRACE: Duration = Duration::from_secs(60 * 60);

/// What a session needs to know of itself.
#[derive(Debug)]
pub struct Terms {
    /// Names it in logs.
    pub id: SessionId,
    /// The protocol version agreed on, which decides the length of the cancel key.
    pub version: u32,
    /// Who logged in.
    pub identity: Arc<Identity>,
}

/// What all sessions share.
pub struct Common<'a> {
    /// The cancel keys of the sessions.
    pub cancels: &'a Cancels,
    /// Knows the signing key.
    pub directory: &'a Directory,
    /// Makes identities of tokens and of choices.
    pub identities: Identities<'a>,
    /// A tenant that is chosen in a transaction stays chosen for the session.
    pub choice_outlives_transaction: bool,
    /// The statements that clients have prepared.
    pub statements: &'a Statements,
    /// Tells what happens.
    pub observer: &'a Observer,
    /// The rules of transaction pooling.
    pub pooling: TransactionPooling,
    /// What tenants' statements may be.
    pub guard: Option<&'a Guard>,
    /// What super-admins' statements may be.
    pub superadmin_guard: &'a Guard,
    /// What one tenant may take.
    pub limits: &'a TenantLimits,
}

impl<'a> Common<'a> {
    /// What limits such a session: only tenants have any.
    const fn limits_for(&self, scope: Scope) -> Option<TenantLimits> {
        match scope {
            Scope::Tenant(_) | Scope::Nobody => Some(*self.limits),
            Scope::Superadmin | Scope::Owner => None,
        }
    }

    /// What holds for such a session's statements; the owner is held to nothing.
    const fn guard_for(&self, scope: Scope) -> Option<&'a Guard> {
        match scope {
            Scope::Tenant(_) | Scope::Nobody => self.guard,
            Scope::Superadmin => Some(self.superadmin_guard),
            Scope::Owner => None,
        }
    }
}

/// How a client comes to server connections.
pub enum Lease {
    /// This one is the client's until it leaves.
    Session(Box<Bound>),
    /// One for each transaction; and the notices of the first, whole frames.
    Transaction(Box<Borrower>, Bytes),
}

/// Serves an authenticated client until it leaves, its token ends, or the server is lost.
pub async fn run(
    client: Box<FrameStream>,
    lease: Lease,
    terms: Box<Terms>,
    common: &Common<'_>,
    shutdown: Shutdown,
) {
    let started = Instant::now();
    let observer = common.observer;
    let ended = |end: &End| {
        observer.observe(Event::SessionEnded {
            session: terms.id,
            reason: end.as_str(),
            duration: started.elapsed(),
        });
    };
    match lease {
        Lease::Session(bound) => {
            // Only so that a client with transaction pooling does not have to make room for it.
            Box::pin(run_session(client, bound, &terms, common, shutdown, ended)).await;
        }
        Lease::Transaction(borrower, notices) => {
            let target = Arc::clone(borrower.pool.target());
            let registration = common.cancels.register(target, None, terms.id, terms.version);
            let mut client = client;
            greet(&mut client, &borrower.told, &shown(notices, &terms, common), &registration);
            let serve = transaction::run(client, borrower, &registration, &terms, common, shutdown);
            let (client, end, is_amid) = serve.await;
            ended(&end);
            drop(registration);
            say_goodbye(client, &end, is_amid, &terms).await;
        }
    }
}

/// The notices of a login that its client may see.
fn shown(notices: Bytes, terms: &Terms, common: &Common<'_>) -> Bytes {
    let scope = terms.identity.context().scope();
    filter::login_notices(notices, scope, common.guard_for(scope))
}

async fn run_session(
    mut client: Box<FrameStream>,
    mut bound: Box<Bound>,
    terms: &Terms,
    common: &Common<'_>,
    shutdown: Shutdown,
    ended: impl FnOnce(&End),
) {
    let server = bound.server();
    let (target, key) = (Arc::clone(bound.target()), Arc::clone(server.key()));
    let registration = common.cancels.register(target, Some(key), terms.id, terms.version);
    let guard = common.guard_for(bound.scope());
    let notices = filter::login_notices(server.login_notices().clone(), bound.scope(), guard);
    greet(&mut client, server.statuses(), &notices, &registration);
    let limits = common.limits_for(bound.scope());
    let mut relay = Relay::new(&mut client, &mut bound, common, terms);
    let end = drive(&mut relay, terms, limits, &registration, shutdown).await;
    let (residue, is_amid) = (relay.residue(&end), relay.is_amid_a_message());
    ended(&end);
    let goodbye = say_goodbye(*client, &end, is_amid, terms);
    tokio::join!(goodbye, give_back(*bound, registration, residue));
}

/// Tells the client that it is in, and on what.
fn greet(
    client: &mut FrameStream,
    statuses: &Statuses,
    notices: &[u8],
    registration: &Registration,
) {
    let out = &mut client.outgoing;
    message::authentication_ok(out);
    for (name, value) in statuses {
        message::parameter_status(name, value, out);
    }
    out.extend_from_slice(notices);
    let key = registration.key();
    message::backend_key_data(key.pid, &key.secret, out);
    message::ready_for_query(TransactionStatus::Idle, out);
}

/// Runs the relay, and ends it when its time has come.
async fn drive(
    relay: &mut Relay<'_>,
    terms: &Terms,
    limits: Option<TenantLimits>,
    registration: &Registration,
    mut shutdown: Shutdown,
) -> End {
    let mut watch = Watch::new(limits);
    let mut deadline = shutdown.clone();
    let expiry = tokio::time::sleep(remaining(terms.identity.context().expires_at()));
    let mut expiry = std::pin::pin!(expiry);
    let mut ending = false;
    let is_privileged = terms.identity.is_privileged();
    let grace = tokio::time::sleep(Duration::ZERO);
    let mut grace = std::pin::pin!(grace);
    let mut has_grace = false;
    loop {
        tokio::select! {
            biased;
            exceeded = std::future::poll_fn(|cx| poll_watched(relay, watch.as_mut(), cx)) => {
                match exceeded {
                    Err(end) => return end,
                    Ok(Exceeded::End(error)) => return End::Told(error),
                    Ok(Exceeded::Cancel) => {
                        relay.cancel_is_due();
                        registration.cancel_soon();
                    }
                    Ok(Exceeded::Flush) => relay.flush_server(),
                }
            }
            () = shutdown.draining(), if !ending => {
                ending = true;
                relay.end_at_rest(draining());
            }
            error = std::future::poll_fn(|cx| terms.identity.stay().poll_ended(cx)), if !ending => {
                ending = true;
                relay.lose_leave();
                relay.end_at_rest(error);
                if is_privileged {
                    return relay.end_now();
                }
                has_grace = true;
                grace.as_mut().reset(tokio::time::Instant::now() + REVOKED_GRACE);
            }
            () = &mut grace, if has_grace => return relay.end_now(),
            () = &mut expiry, if !ending => {
                // A clock that was set back must not lengthen a session, nor a coarse timer
                // shorten it.
                let left = remaining(terms.identity.context().expires_at());
                if left.is_zero() {
                    ending = true;
                    relay.end_at_rest(expired());
                    if is_privileged {
                        return relay.end_now();
                    }
                    has_grace = true;
                    grace.as_mut().reset(tokio::time::Instant::now() + EXPIRED_GRACE);
                } else {
                    expiry.as_mut().reset(tokio::time::Instant::now() + left);
                }
            }
            () = deadline.deadline() => return End::Told(draining()),
        }
    }
}

/// Runs the relay until it ends, or until something of it has lasted too long.
fn poll_watched(
    relay: &mut Relay<'_>,
    watch: Option<&mut Watch>,
    cx: &mut Context<'_>,
) -> Poll<Result<Exceeded, End>> {
    if let Poll::Ready(end) = relay.poll(cx) {
        return Poll::Ready(Err(end));
    }
    match watch {
        Some(watch) => watch.poll(cx, || relay.standing()).map(Ok),
        None => Poll::Pending,
    }
}

fn remaining(expires_at: SystemTime) -> Duration {
    expires_at.duration_since(SystemTime::now()).unwrap_or_default()
}

/// Tells the client why its session is over, unless it would take that for a part of the message
/// whose beginning it has.
async fn say_goodbye(mut client: FrameStream, end: &End, is_amid: bool, terms: &Terms) {
    if is_amid {
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, client.close()).await;
        return;
    }
    if let Some(refusal) = client.take_refusal() {
        refusal.encode(&mut client.outgoing);
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, client.close_with_last_words()).await;
        return;
    }
    match end {
        // Closing says all that there is to say.
        End::ClientLeft if client.outgoing.is_empty() && !client.socket().is_tls() => return,
        End::Cut => return,
        End::ClientGone | End::ClientLeft => {
            // Whoever has only closed its own end still reads the rest of its answers.
            let _ = tokio::time::timeout(FAREWELL_TIMEOUT, client.close()).await;
            return;
        }
        End::ServerSaidWhy => {}
        End::Told(error) => error.encode(&mut client.outgoing),
        End::ServerLost => server_lost().encode(&mut client.outgoing),
        End::Bug(what) => {
            tracing::debug!(session = %terms.id, what, "invariant broken");
            ClientError::internal(terms.id).encode(&mut client.outgoing);
        }
    }
    // A client that does not listen any more does not have to be told.
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, client.close_with_last_words()).await;
}

/// Stops what may still be running, and offers the connection back to its pool.
async fn give_back(bound: Bound, registration: Registration, residue: Residue) {
    // From here on no cancel request of this client can reach the connection.
    let running = residue.pending > 0 || residue.unaccountable;
    registration.end_hold(running && !residue.lost).await;
    drop(registration);
    bound.release(residue).await;
}

/// What a client is told when the proxy ends.
pub fn draining() -> ClientError {
    ClientError::fatal("57P01", "C305", "terminating connection because the proxy is shutting down")
}

fn expired() -> ClientError {
    ClientError::fatal("57P01", "C204", "terminating connection because the token has expired")
        .hint("Connect again with a new token.")
}

fn server_lost() -> ClientError {
    ClientError::fatal("08006", "C304", "the connection to Postgres was lost")
}

fn cannot_ask() -> ClientError {
    ClientError::fatal("08006", "C205", "the proxy cannot ask the database")
        .hint("The proxy's log has the cause.")
}
