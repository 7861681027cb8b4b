//! Asks Postgres to cancel what a server connection is doing.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use bytes::BytesMut;

use super::connect::{Error, Target};
use crate::protocol::{self, message};
use crate::types::CancelKey;

/// Sends a `CancelRequest` and waits until Postgres has closed the connection: from then on the
/// signal is on its way, and no later statement is meant.
///
/// # Errors
///
/// Fails when the server cannot be reached, or does not close the connection in time.
pub async fn forward_cancel(target: &Target, key: &CancelKey) -> Result<(), Error> {
    target
        .within_timeout(async {
            let mut socket = target.dial().await?;
            let mut request = BytesMut::new();
            message::cancel_request(key.pid, &key.secret, &mut request);
            socket.write_all(&request).await.map_err(protocol::Error::Io)?;
            // Postgres answers nothing. A reset instead of an orderly close means the same.
            let _ = socket.read_u8().await;
            Ok(())
        })
        .await
}
