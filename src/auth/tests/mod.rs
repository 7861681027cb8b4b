//! Every way to get past the door that we know of, for every algorithm.

mod claims;
mod discovery;
mod fuzz;
mod header;
mod known;
mod providers;
mod remote;
mod rules;
mod server;
mod support;
mod told;
