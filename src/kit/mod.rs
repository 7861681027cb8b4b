//! The tenant kit: installs and checks the SQL side of Cloison; never sees a client.

pub mod lint;
pub mod migrate;
pub mod verify;
