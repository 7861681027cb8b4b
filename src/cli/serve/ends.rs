//! Ends sessions whose token was revoked, or whose tenant is not served any more; and keeps the audit
//! log in order meanwhile.

use std::sync::Arc;
use std::time::Duration;

use crate::observe::Event;
use crate::proxy::Shared;
use crate::shutdown::Shutdown;
use crate::tenant::Error;

/// How often the database is asked, if it says nothing itself. An end takes no longer than a second.
const INTERVAL: Duration = Duration::from_millis(500);
/// Anybody may send notifications, so there are no more looks than so.
const SHORTEST: Duration = Duration::from_millis(100);
/// So long may an answer take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first look, without which nobody is served.
///
/// # Errors
///
/// Fails as the control connection does, and when the kit is older than this program.
pub(super) async fn begin(shared: &Shared) -> Result<(), Error> {
    shared.directory.look(&shared.stays).await.map(|_| ())
}

/// Looks again and again.
pub(super) async fn go_on(shared: Arc<Shared>, mut shutdown: Shutdown) {
    let (mut has_failed, mut is_unkept) = (false, false);
    loop {
        let next = async {
            tokio::time::sleep(SHORTEST).await;
            let _ = tokio::time::timeout(INTERVAL - SHORTEST, shared.directory.woken()).await;
        };
        tokio::select! {
            () = shutdown.draining() => {
                let _ = keep_records(&shared, true).await;
                return;
            }
            () = next => {}
        }
        let looked = look(&shared).await;
        if let Err(reason) = &looked
            && !has_failed
        {
            shared.observer.observe(Event::EndsUnknown { reason: reason.clone() });
        }
        has_failed = looked.is_err();
        let kept = keep_records(&shared, false).await;
        if let Err(error) = &kept
            && !is_unkept
        {
            tracing::warn!(error, "the audit log could not be kept in order");
        }
        is_unkept = kept.is_err();
        let ended = shared.stays.end_if_blind() + looked.unwrap_or_default();
        if ended > 0 {
            shared.observer.observe(Event::SessionsEnding { count: ended });
        }
    }
}

/// Gives what sessions have recorded its place, and records what was only counted.
async fn keep_records(shared: &Shared, is_last: bool) -> Result<(), String> {
    let kept = async {
        shared.directory.record_refusals(is_last).await?;
        shared.directory.chain_records().await
    };
    match tokio::time::timeout(PATIENCE, kept).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

/// Says how many sessions end, or why that is not known.
async fn look(shared: &Shared) -> Result<usize, String> {
    let looked = tokio::time::timeout(PATIENCE, shared.directory.look(&shared.stays)).await;
    let changed = match looked {
        Ok(Ok(changed)) => changed,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no answer within {} s", PATIENCE.as_secs())),
    };
    if changed.is_some() {
        shared.verifier.forget(|claims| shared.stays.has_revoked(claims));
    }
    Ok(changed.unwrap_or_default())
}
