//! The half that faces Postgres.

mod cancel;
mod connect;
mod connection;
mod control;
mod prepared;

pub use cancel::forward_cancel;
pub use connect::{Error, Target, is_away};
pub use connection::{HeldBinds, MOST_ROWS, Reply, ServerConnection, Statuses};
pub use control::{Control, Error as ControlError};
pub use prepared::{Prepared, ReadAs, Shape, Statement, put_named};
