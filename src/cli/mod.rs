//! The program's verbs: a file each, with `Args` and `run`.

pub mod token;
