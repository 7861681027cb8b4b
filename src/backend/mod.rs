//! The half that faces Postgres.

mod cancel;
mod connect;
mod connection;
mod control;

pub use cancel::forward_cancel;
pub use connect::{Error, Target};
pub use connection::Reply;
pub use connection::ServerConnection;
pub use control::{Control, Error as ControlError};
