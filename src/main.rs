//! The `cloison` program: reads the verb, runs it, maps errors to exit codes.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use cloison::cli::command::{Cli, Verb};
use cloison::cli::{self, EXIT_USAGE};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; whether they can be printed changes nothing.
            let _ = cli::colour::print_help(&error.render().to_string(), error.use_stderr());
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    cloison::tls::install_provider();
    match cli.verb {
        Verb::Adopt(args) => cli::adopt::run(args).await.unwrap_or_else(|error| fail(&error)),
        Verb::Audit(args) => cli::audit::run(args).await.unwrap_or_else(|error| {
            eprintln!("cloison: {}", cli::report(&error));
            cli::audit::EXIT_COULD_NOT_RUN.into()
        }),
        Verb::Check(args) => cli::check::run(args).await,
        Verb::Dev(args) => match cli::dev::run(args).await {
            Ok(code) => code,
            Err(cli::dev::Error::Config(errors)) => {
                eprintln!("{errors}");
                EXIT_USAGE.into()
            }
            Err(error) => fail(&error),
        },
        Verb::Generate(args) => cli::generate::run(&args).unwrap_or_else(|error| fail(&error)),
        Verb::Init(args) => cli::init::run(args).await.unwrap_or_else(|error| {
            let code = fail(&error);
            if error.is_usage() { EXIT_USAGE.into() } else { code }
        }),
        Verb::Install(args) => cli::install::run(args).await.unwrap_or_else(|error| fail(&error)),
        Verb::Lint(args) => cli::lint::run(args).await.unwrap_or_else(|error| {
            eprintln!("cloison: {}", cli::report(&error));
            cli::lint::EXIT_COULD_NOT_RUN.into()
        }),
        Verb::Serve(args) => match cli::serve::run(args).await {
            Ok(code) => code,
            Err(cli::serve::Error::Config(errors)) => {
                eprintln!("{errors}");
                EXIT_USAGE.into()
            }
            Err(error) => fail(&error),
        },
        Verb::Token(args) => cli::token::run(args).unwrap_or_else(|error| fail(&error)),
        Verb::Verify(args) => cli::verify::run(args).await.unwrap_or_else(|error| fail(&error)),
    }
}

fn fail(error: &dyn Error) -> ExitCode {
    eprintln!("cloison: {}", cli::report(error));
    ExitCode::FAILURE
}
