//! `cloison check`: reads the configuration and prints the effective one, or all its errors; or
//! tries everything that the first client would need.

mod table;

use std::io::{self, Write};
use std::process::ExitCode;

use tokio::runtime::Handle;

use crate::auth::Verifier;
use crate::config::{self, Config};

use super::EXIT_USAGE;
use super::colour;
use super::configuration::Source;
use super::readiness::{self, Check, State};

/// Validate the configuration and print what is in force, without secrets.
///
/// With --connect it logs in to Postgres as every role of the configuration, fetches the keys that
/// tokens are verified with, looks at certificates, files, the kit and the database, and prints a
/// line for each. Exit code 0: all is well, or worth a warning; 1: something does not work; 64: the
/// configuration cannot be used.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Print every key with its meaning and default instead.
    #[arg(long)]
    keys: bool,
    /// Try everything that the first client would need, as `cloison serve` does at its start
    #[arg(long, conflicts_with = "keys")]
    connect: bool,
}

/// Answers 0 for a good configuration, 64 for a bad one; 1 if something of it does not work, or
/// nobody reads the answer.
pub async fn run(args: Args) -> ExitCode {
    let (text, is_good) = match args.keys {
        true => (include_str!("../../config/example.toml").to_owned(), true),
        false => match args.source.load() {
            Ok(config) if args.connect => connect(&config, &args.source).await,
            Ok(config) => (config::effective(&config), true),
            Err(error) => {
                let _ = writeln!(io::stderr(), "{error}");
                return ExitCode::from(EXIT_USAGE);
            }
        },
    };
    let printed = io::stdout().write_all(text.as_bytes());
    if printed.is_ok() && is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tries everything; the table, and whether nothing failed.
async fn connect(config: &Config, source: &Source) -> (String, bool) {
    crate::tls::install_provider();
    let verifier = Verifier::new(&config.issuers);
    let mut checks = readiness::files(source);
    checks.extend(readiness::look(config, &verifier, &Handle::current()).await.checks);
    let is_good = |check: &Check| !matches!(check.state, State::Failed(..));
    (table::page(&checks, colour::of_stdout()), checks.iter().all(is_good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn exit_code_tells_good_from_bad() {
        for (file, expected) in [
            ("config/minimal.toml", ExitCode::SUCCESS),
            ("Cargo.toml", ExitCode::from(EXIT_USAGE)),
            ("no such file", ExitCode::from(EXIT_USAGE)),
        ] {
            let source = Source { config: Some(file.into()), env_file: None };
            let args = Args { source, keys: false, connect: false };
            // ExitCode has no equality.
            assert_eq!(format!("{:?}", run(args).await), format!("{expected:?}"), "{file}");
        }
    }
}
