//! The `cloison` program.

fn main() {}
