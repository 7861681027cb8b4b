//! The way from an admitted client to its first server connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::OwnedSemaphorePermit;

use super::refusal::Refusal;
use super::{Admitted, Shared};
use crate::config::PoolMode;
use crate::pool::{BindError, Bound, Pool, PoolKey};
use crate::protocol::FrameStream;
use crate::session::{Borrower, Lease};
use crate::types::{Access, Patience, SessionSettings};

/// A client that waits for its session is read on up to so many bytes.
const MOST_AHEAD: usize = 64 * 1024;

/// Opens the way to server connections, and sees to it that the first one is there.
pub(super) async fn open(admitted: Admitted, shared: &Shared) -> Result<Lease, Refusal> {
    // Who acts for a tenant has what the tenant has, and no more.
    let access = match admitted.identity.tenant() {
        Some(_) => Access::Tenant,
        None => admitted.access,
    };
    let database = shared.config.server.database.clone();
    let served = PoolKey { access, database };
    let asked_for = admitted.params.database.as_str();
    let pool = match access {
        Access::Owner if asked_for != served.database => {
            shared.pools.of_owner_in(&served, asked_for)?
        }
        Access::Owner | Access::Superadmin | Access::Tenant => shared.pools.find(&served)?,
    };
    pool.admit()?;
    match pool.mode() {
        // Who may be somebody else from one transaction to the next is bound in each of them.
        PoolMode::Session if may_change(&admitted, shared) => borrow(pool, admitted).await,
        PoolMode::Session => {
            let patience = pool.patience();
            let share = share(&admitted, patience).await?;
            let mut bound = Box::pin(bind(&pool, &admitted, patience, shared)).await?;
            if let Some(share) = share {
                bound.count_for_tenant(share);
            }
            Ok(Lease::Session(Box::new(bound)))
        }
        PoolMode::Transaction => borrow(pool, admitted).await,
    }
}

/// Waits for a place in the share of whom the client counts for.
async fn share(
    admitted: &Admitted,
    patience: Patience,
) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
    match admitted.identity.member() {
        Some(member) => Ok(Box::pin(member.server(patience)).await?),
        None => Ok(None),
    }
}

/// Whether a client may come to act for somebody else while it is here.
fn may_change(admitted: &Admitted, shared: &Shared) -> bool {
    let takes_tokens = admitted.access == Access::Tenant && shared.config.sessions_take_tokens;
    admitted.identity.may_choose() || takes_tokens
}

/// What a client is told at login comes from a server connection that has its settings; of which
/// there may have been one before.
async fn borrow(pool: Arc<Pool>, admitted: Admitted) -> Result<Lease, Refusal> {
    let (settings, overrides) = split_settings(&admitted.settings);
    let welcome = match pool.welcome(&settings) {
        Some(welcome) => welcome,
        None => {
            let patience = pool.patience();
            // It may take a new server connection, which counts as any other does.
            let _share = share(&admitted, patience).await?;
            Box::pin(pool.meet(&settings, patience, admitted.access)).await?
        }
    };
    let told = welcome.statuses_with(&overrides);
    let keeps = pool.mode() == PoolMode::Session;
    let borrower = Borrower::new(pool, keeps, settings, overrides, told);
    Ok(Lease::Transaction(Box::new(borrower), welcome.notices))
}

/// Clients that differ in their name alone may have the same server connections, so the name is
/// set on top of what a connection is started with.
fn split_settings(settings: &SessionSettings) -> (Arc<SessionSettings>, Arc<SessionSettings>) {
    const NAME: &str = "application_name";
    const ENCODING: &str = "client_encoding";
    let mut settings = settings.clone();
    let mut overrides = SessionSettings::default();
    // Drivers spell it in many ways, and mean the same.
    let is_utf8 = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        letters.collect::<String>().eq_ignore_ascii_case("utf8")
    };
    if settings.value(ENCODING).is_some_and(is_utf8) {
        settings.set(ENCODING.to_owned(), "UTF8".to_owned());
    }
    // About one that it would change, Postgres tells at the login.
    if settings.value(NAME).is_some_and(|name| name.len() < 64 && name.is_ascii()) {
        overrides.set(NAME.to_owned(), settings.remove(NAME).unwrap_or_default());
    }
    (Arc::new(settings), Arc::new(overrides))
}

/// Checks a server connection out and binds it to the context.
async fn bind(
    pool: &Arc<Pool>,
    admitted: &Admitted,
    patience: Patience,
    shared: &Shared,
) -> Result<Bound, Refusal> {
    match checkout_and_bind(pool, admitted, patience, shared).await? {
        Ok(bound) => Ok(bound),
        // Postgres may have been restarted behind our back, or the key been changed. Nothing of
        // the client's has been sent yet, so once more is safe.
        Err(BindError::Lost(_)) => {
            pool.drop_idle().await;
            Ok(checkout_and_bind(pool, admitted, patience, shared).await??)
        }
        Err(BindError::Refused { .. }) => {
            // Perhaps the tenant is not what it was a moment ago.
            if let Some(tenant) = admitted.identity.tenant() {
                shared.directory.confirm_now(tenant).await??;
            }
            shared.directory.renew_signer().await?;
            Ok(checkout_and_bind(pool, admitted, patience, shared).await??)
        }
    }
}

async fn checkout_and_bind(
    pool: &Arc<Pool>,
    admitted: &Admitted,
    patience: Patience,
    shared: &Shared,
) -> Result<Result<Bound, BindError>, Refusal> {
    let checkout = pool.checkout(&admitted.settings, patience, admitted.access).await?;
    Ok(checkout.bind(admitted.identity.context(), shared.directory.signer()).await)
}

/// Ready once the client has closed its connection. What it sends until then is kept for its
/// session; behind much of that, its end is noticed when the session begins.
pub(super) async fn hung_up(client: &mut FrameStream) {
    poll_fn(|cx| {
        while client.incoming.len() < MOST_AHEAD {
            match client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await;
}
