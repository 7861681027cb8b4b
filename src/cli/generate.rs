//! `cloison generate`: writes the man pages and the shell completions that packages contain.
//!
//! The program makes them itself, because a generator of its own would be a second build.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::command::Cli;

/// Write the man pages and the shell completions that packages contain.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Folder for man/ and completions/. It is made if it is missing.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Why a page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write below {}", folder.display())]
pub struct Error {
    /// The folder that was to be written to.
    folder: PathBuf,
    /// The system's reason.
    #[source]
    source: io::Error,
}

/// Runs the command.
///
/// # Errors
///
/// Fails when a file cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Error> {
    write(&args.folder).map_err(|source| Error { folder: args.folder.clone(), source })?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path) -> io::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    clap_mangen::generate_to(Cli::command(), &man)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "cloison", &completions)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of a test's own, with what was generated.
    fn generated(name: &str) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("cloison-generate-{name}-{}", std::process::id()));
        run(&Args { folder: folder.clone() }).unwrap();
        folder
    }

    fn commands() -> Vec<String> {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
        let names: Vec<String> = shown.map(|command| command.get_name().to_owned()).collect();
        assert!(names.len() > 5, "{names:?}");
        names
    }

    #[test]
    fn every_command_has_a_man_page_with_its_options() {
        let folder = generated("man");
        let read = |name: &str| fs::read_to_string(folder.join("man").join(name)).unwrap();
        let overview = read("cloison.1");
        for name in commands() {
            let page = read(&format!("cloison-{name}.1"));
            assert!(page.contains(".TH cloison-"), "{page}");
            assert!(overview.contains(&format!("cloison\\-{name}(1)")), "{name}: {overview}");
        }
        assert!(read("cloison-serve.1").contains("\\-\\-config"));
        assert!(!overview.contains("generate"), "{overview}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn completions_know_every_command() {
        let folder = generated("completions");
        for file in ["cloison.bash", "_cloison", "cloison.fish"] {
            let text = fs::read_to_string(folder.join("completions").join(file)).unwrap();
            for name in commands() {
                let known = text.split(|c: char| !c.is_alphanumeric() && c != '-');
                assert!(known.into_iter().any(|word| word == name), "{file}: {name}");
            }
            assert!(text.contains("database-url"), "{file}");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let error = run(&Args { folder: "/dev/null/pages".into() }).unwrap_err();
        assert!(error.to_string().contains("/dev/null/pages"), "{error}");
    }
}
