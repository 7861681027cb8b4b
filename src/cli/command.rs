//! The command line as a whole: `main` parses it, and man pages and completions are made from it.

use clap::{Parser, Subcommand};

/// A Postgres proxy that makes tenants watertight: a JWT in, one tenant's rows out.
#[derive(Debug, Parser)]
#[command(name = "cloison", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands, each with its options.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Bring tables that are in use under isolation, and back
    Adopt(super::adopt::Args),
    /// Prove the audit log unbroken, or name the first row that is wrong
    Audit(super::audit::Args),
    /// Validate the configuration and print what is in force
    Check(super::check::Args),
    /// Start everything on this machine: a Postgres, sample tenants, the proxy
    Dev(super::dev::Args),
    /// Write the man pages and the shell completions that packages contain
    #[command(hide = true)]
    Generate(super::generate::Args),
    /// Make a database and a folder ready for `cloison serve`
    Init(super::init::Args),
    /// Install the SQL kit in a database, or print it
    Install(super::install::Args),
    /// Look the database over for what lets tenants see each other's rows
    Lint(super::lint::Args),
    /// Serve clients until SIGTERM
    Serve(super::serve::Args),
    /// Mint a development token
    Token(super::token::Args),
    /// Try everything that isolation forbids, through the proxy, as two tenants
    Verify(super::verify::Args),
}
