//! The verbs of the command line, one file each: `Args`, and `run` which answers an exit code.
//! [`database`] and [`configuration`] are what several of them begin with.

use std::env;
use std::error::Error;

pub mod adopt;
pub mod audit;
pub mod check;
pub mod colour;
pub mod command;
pub mod configuration;
pub mod database;
pub mod dev;
pub mod generate;
pub mod init;
pub mod install;
pub mod lint;
mod readiness;
pub mod serve;
pub mod token;
pub mod verify;

/// Exit code of a usage or configuration error: `EX_USAGE` of `sysexits.h`.
pub const EXIT_USAGE: u8 = 64;

/// The environment as text. What is no UTF-8 is no variable of ours.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    })
}

/// A word for a POSIX shell, in quotes if it needs them.
pub(crate) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// An error and its causes, a line each. A cause that was told already is not told again.
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        // `tokio_postgres` has no more words of its own for what the server said.
        let words = told.strip_prefix("ERROR: ").unwrap_or(&told);
        if told != "db error" && !text.contains(words) {
            text.push_str("\n  because: ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
