//! `cloison check`: reads the configuration and prints the effective one, or all its errors.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::config;

use super::EXIT_USAGE;
use super::configuration::Source;

/// Validate the configuration and print what is in force, without secrets.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Print every key with its meaning and default instead.
    #[arg(long)]
    keys: bool,
}

/// Answers 0 for a good configuration, 64 for a bad one, 1 if nobody reads the answer.
pub fn run(args: Args) -> ExitCode {
    let printed = if args.keys {
        io::stdout().write_all(include_bytes!("../../config/example.toml"))
    } else {
        match args.source.load() {
            Ok(config) => io::stdout().write_all(config::effective(&config).as_bytes()),
            Err(error) => {
                let _ = writeln!(io::stderr(), "{error}");
                return ExitCode::from(EXIT_USAGE);
            }
        }
    };
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_tells_good_from_bad() {
        for (file, expected) in [
            ("config/minimal.toml", ExitCode::SUCCESS),
            ("Cargo.toml", ExitCode::from(EXIT_USAGE)),
            ("no such file", ExitCode::from(EXIT_USAGE)),
        ] {
            let source = Source { config: Some(file.into()), env_file: None };
            let args = Args { source, keys: false };
            // ExitCode has no equality.
            assert_eq!(format!("{:?}", run(args)), format!("{expected:?}"), "{file}");
        }
    }
}
