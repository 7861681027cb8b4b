//! THE FLOW of one client: startup, authenticate, tenant, session.
//!
//! Every refusal before a session is answered here, and nowhere else. `AuthenticationOk` is sent
//! by the session, once a server connection acts for the tenant: no client is told that it is in
//! before we know for whom.

mod opening;
mod record;
mod refusal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::auth::{Door, Verifier};
use crate::config::Config;
use crate::frontend::{self, Startup, StartupParams, Wishes, listener::Admission};
use crate::guard::Guard;
use crate::observe::{Event, Observer};
use crate::pool::Pools;
use crate::protocol::{self, FrameStream, Socket};
use crate::session::{self, Cancels, Common, Lease, Recorder, Statements, Terms};
use crate::shutdown::Shutdown;
use crate::tenant::{AuditRecord, Directory, Identities, Identity, Shares, Stays};
use crate::types::{Access, Address, CancelKey, SessionId, SessionSettings};

use refusal::Refusal;

/// One client too many has this long to say what it wants: a cancel request is carried out,
/// everything else is refused.
const FULL_TIMEOUT: Duration = Duration::from_secs(1);

/// A client in a reserved place has this long to prove that it may have one.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(5);

/// What all clients share; built once, by `cli::serve`.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// What tenants' statements may be.
    pub guard: Option<Guard>,
    /// Holds super-admins' statements to a list.
    pub superadmin_guard: Guard,
    /// Answers clients that ask for TLS, if there is a certificate.
    pub acceptor: Option<TlsAcceptor>,
    /// Verifies tokens.
    pub verifier: Verifier,
    /// Knows the tenants and the signing key.
    pub directory: Arc<Directory>,
    /// The server connections.
    pub pools: Pools,
    /// The sessions that there are.
    pub stays: Stays,
    /// Places of super-admins and the owner beyond `max_client_conn`.
    pub reserved: Arc<Semaphore>,
    /// What each tenant has of all that.
    pub shares: Shares,
    /// The cancel keys of the sessions.
    pub cancels: Cancels,
    /// The statements that clients have prepared.
    pub statements: Statements,
    /// Tells what happens.
    pub observer: Observer,
    /// The number of the last session.
    pub sessions: AtomicU64,
}

/// A client whose token was accepted, before it has a server connection.
struct Admitted {
    params: StartupParams,
    settings: Arc<SessionSettings>,
    access: Access,
    identity: Arc<Identity>,
    /// Each of its statements is recorded as one of this session.
    recorded: Option<Box<AuditRecord>>,
}

/// How a client has come. On the heap, for it is kept for as long as the client is here.
#[derive(Debug)]
pub struct Arrival {
    /// Whether there is room for it.
    pub admission: Admission,
    /// Whether it came to the port of OAUTHBEARER.
    pub is_oauth: bool,
}

impl Arrival {
    /// Gives a client that asks for a super-admin's or the owner's role one of their places, where
    /// all others are taken.
    fn take_reserved(&mut self, params: &StartupParams, shared: &Shared) {
        let is_full = matches!(self.admission, Admission::Full(_));
        if is_full
            && shared.config.access_of(&params.user) != Access::Tenant
            && let Ok(place) = Arc::clone(&shared.reserved).try_acquire_owned()
        {
            self.admission = Admission::Admitted(place);
        }
    }
}

/// Serves one connection, from accepted socket to closed socket.
pub async fn serve_client(
    socket: Socket,
    mut arrival: Box<Arrival>,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    // What it takes to begin is given up before the session, which may be idle for days.
    let Some((client, lease, terms)) =
        Box::pin(begin(socket, &mut arrival, &shared, shutdown.clone())).await
    else {
        return;
    };
    let common = Common {
        cancels: &shared.cancels,
        directory: &shared.directory,
        identities: Identities {
            verifier: &shared.verifier,
            directory: &shared.directory,
            shares: &shared.shares,
            stays: &shared.stays,
        },
        choice_outlives_transaction: shared.config.choice_outlives_transaction,
        statements: &shared.statements,
        observer: &shared.observer,
        pooling: shared.config.transaction_pooling,
        guard: shared.guard.as_ref(),
        superadmin_guard: &shared.superadmin_guard,
        limits: &shared.config.limits.tenant,
    };
    session::run(client, lease, terms, &common, shutdown).await;
}

/// Everything up to the session; `None` once the client has been told that there is none.
async fn begin(
    socket: Socket,
    arrival: &mut Arrival,
    shared: &Shared,
    mut shutdown: Shutdown,
) -> Option<(Box<FrameStream>, Lease, Box<Terms>)> {
    let id = SessionId(shared.sessions.fetch_add(1, Ordering::Relaxed) + 1);
    let address = socket.peer().ok()?;
    let client_addr = address.clone();
    shared.observer.observe(Event::ClientConnected { session: id, client_addr });
    let limit = match &arrival.admission {
        Admission::Admitted(_) => shared.config.limits.client_login_timeout,
        Admission::Full(_) => FULL_TIMEOUT + RESERVED_TIMEOUT,
    };
    let startup = within(limit, log_in(socket, arrival, id, &address, shared));
    let startup = tokio::select! {
        startup = startup => startup?,
        // Who has no session yet is nobody that the end has to wait for.
        () = shutdown.draining() => return None,
    };
    let (mut client, mut admitted) = match startup {
        Ok(Login::Admitted(client, admitted)) => (client, admitted),
        Ok(Login::Cancel(client, key)) => {
            Box::pin(carry_out_cancel(&key, &address, shared)).await;
            // The sender waits for us to close, and may do so until the request is carried out.
            drop(client);
            return None;
        }
        Err(refused) => {
            refusal::tell(refused, id, &shared.observer).await;
            return None;
        }
    };
    let (access, identity) = (admitted.access, Arc::clone(&admitted.identity));
    let user = admitted.params.user.clone();
    let version = admitted.params.version;
    let recorded = admitted.recorded.take();
    let opened = tokio::select! {
        opened = opening::open(*admitted, shared) => opened,
        () = opening::hung_up(&mut client) => Err(protocol::Error::Closed.into()),
        () = shutdown.draining() => Err(Refusal::from(session::draining())),
    };
    let lease = match opened {
        Ok(lease) => lease,
        Err(refusal) => {
            refusal::tell((Some(client), refusal), id, &shared.observer).await;
            return None;
        }
    };
    let (issuer, holder) = identity.token();
    shared.observer.observe(Event::SessionStarted {
        session: id,
        access,
        tenant: identity.tenant(),
        issuer,
        holder,
        client_addr: address,
        user,
    });
    client.outgoing.reserve(1024);
    if let Some(recorded) = recorded {
        let recorder = Recorder::new(Arc::clone(&shared.directory), *recorded);
        client.set_gate(Box::new(recorder));
    }
    Some((Box::new(client), lease, Box::new(Terms { id, version, identity })))
}

/// What a connection wanted, once it is known.
enum Login {
    Admitted(FrameStream, Box<Admitted>),
    Cancel(FrameStream, CancelKey),
}

/// A refusal, and the stream to tell it on if there is one.
type Refused = (Option<FrameStream>, Refusal);

async fn log_in(
    socket: Socket,
    arrival: &mut Arrival,
    id: SessionId,
    address: &Address,
    shared: &Shared,
) -> Result<Login, Refused> {
    let limit = match &arrival.admission {
        // All of the login has a limit.
        Admission::Admitted(_) => Duration::ZERO,
        Admission::Full(_) => FULL_TIMEOUT,
    };
    let started = within(limit, frontend::negotiate(socket, shared.acceptor.as_ref())).await;
    let (mut client, params) = match started {
        Some(Ok(Startup::Session(client, params))) => (client, params),
        Some(Ok(Startup::Cancel(client, key))) => return Ok(Login::Cancel(client, key)),
        Some(Err(error)) => return Err(refusal::of_startup(error)),
        None => return Err((None, protocol::Error::Closed.into())),
    };
    arrival.take_reserved(&params, shared);
    let admitted = match &arrival.admission {
        Admission::Full(_) => Err(Refusal::too_many_clients(shared.config.limits.max_client_conn)),
        Admission::Admitted(_) => {
            let door = door(arrival, shared);
            admit(&mut client, params, &door, (id, address), shared).await
        }
    };
    match admitted {
        Ok(admitted) => Ok(Login::Admitted(client, Box::new(admitted))),
        Err(refusal) => Err((Some(client), refusal)),
    }
}

/// What a client may present that came in this way.
fn door<'a>(arrival: &Arrival, shared: &'a Shared) -> Door<'a, Directory> {
    let config = &shared.config;
    Door {
        verifier: &shared.verifier,
        tls: &config.client_tls,
        api_keys: config.api_keys.then_some(&shared.directory),
        oauth: config.oauth.as_ref().filter(|_| arrival.is_oauth),
    }
}

/// Decides whether this client may have a session, and for which tenant.
async fn admit(
    client: &mut FrameStream,
    mut params: StartupParams,
    door: &Door<'_, Directory>,
    (id, address): (SessionId, &Address),
    shared: &Shared,
) -> Result<Admitted, Refusal> {
    let config = &shared.config;
    let access = config.access_of(&params.user);
    let wishes = match access {
        Access::Superadmin => params.take_wishes()?,
        Access::Tenant | Access::Owner => Wishes::default(),
    };
    let policy = config.policy_for(access == Access::Tenant || wishes.tenant.is_some());
    let settings = Arc::new(params.session_settings(&config.startup_parameters, policy)?);
    let claims = door.authenticate(client, access).await?;
    // The owner makes and drops databases, and works in them; tenants are served in one.
    if params.database != config.server.database && access != Access::Owner {
        return Err(Refusal::unknown_database(&params.database));
    }
    let change = shared.stays.change();
    let choice = wishes.tenant.as_deref().or_else(|| params.tenant_choice());
    let selection = shared.directory.select(&claims, choice).await?;
    let mut context = refusal::resolve(&claims, selection, choice)?;
    let staying = shared.stays.begin(&claims, context.scope())?;
    if let Some(tenant) = context.scope().tenant().filter(|_| shared.stays.change() != change) {
        // Who was not yet among the sessions when that was held against them is asked about again.
        shared.directory.confirm_now(tenant).await??;
    }
    let mut recorded = None;
    if access != Access::Tenant {
        let record = AuditRecord::session(&claims, id, address).ok_or_else(Refusal::no_name)?;
        let record = match params.database == config.server.database {
            true => record,
            false => record.with_database(&params.database),
        };
        let on_record = record::put_on_record((&claims, &mut context), record, wishes, shared);
        recorded = Box::pin(on_record).await?;
    }
    let member = match access {
        Access::Tenant => shared.shares.join(&claims, context.scope())?,
        // Super-admins do not count against the tenant's share.
        Access::Superadmin | Access::Owner => None,
    };
    let identity = Arc::new(Identity::new(claims, context, member, staying));
    Ok(Admitted { params, settings, access, identity, recorded })
}

async fn carry_out_cancel(key: &CancelKey, from: &Address, shared: &Shared) {
    match shared.cancels.forward(key, from).await {
        Ok(session::Outcome::Forwarded(session)) => {
            shared.observer.observe(Event::CancelForwarded { session });
        }
        Ok(session::Outcome::Nothing) => shared.observer.observe(Event::CancelUnknown),
        Ok(session::Outcome::Dropped) => {
            shared.observer.observe(Event::CancelDropped { client_addr: from.clone() });
        }
        Err(error) => tracing::debug!(%error, "cancel request could not be forwarded"),
    }
}

/// Runs `step` for at most `limit`; zero means for ever.
async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Option<T> {
    if limit.is_zero() {
        return Some(step.await);
    }
    tokio::time::timeout(limit, step).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// A client has this for as long as it is here, a socket, two timers and a cancel key besides,
    /// and nothing else while it is idle. What is seldom and large has to be boxed.
    #[test]
    fn an_idle_client_is_small() {
        let size = size(serve_client);
        assert!(size <= 2750, "{size} bytes");
    }
}
