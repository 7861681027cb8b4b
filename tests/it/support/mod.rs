//! What a test starts with: a database of its own, a proxy, tokens, raw frames.

pub(crate) mod certificate;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod tap;
pub(crate) mod wire;
