//! Every way to get past the door that we know of, for every algorithm.

mod claims;
mod fuzz;
mod header;
mod known;
mod providers;
mod remote;
mod rules;
mod support;
