//! What `make install`, `make deb` and `make dist` put together, from the program under test.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests count as tests")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_cloison");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("cloison-packaging-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a command says that has to succeed.
fn output<I: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = I>,
) -> String {
    let mut command = Command::new(program);
    // Nothing is compressed well, and time is as in every run.
    command.args(args).env("DEB_COMPRESSION", "none").env("SOURCE_DATE_EPOCH", "1700000000");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn commands() -> Vec<String> {
    let help = output(PROGRAM, ["--help"]);
    let (_, rest) = help.split_once("Commands:\n").unwrap();
    let names = rest.lines().take_while(|line| !line.is_empty());
    let names: Vec<String> =
        names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    assert!(names.len() > 5, "{names:?}");
    names.into_iter().filter(|name| name != "help").collect()
}

/// `KEY=value` of a unit, the last of each.
fn unit(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).collect()
}

#[test]
fn install_puts_everything_below_its_prefix() {
    let folder = Folder::new("install");
    let mut install = Command::new(root().join("packaging/install.sh"));
    install.arg(PROGRAM).env("DESTDIR", &folder.0).env("PREFIX", "/opt/cloison");
    assert!(install.status().unwrap().success());
    let prefix = folder.0.join("opt/cloison");
    assert!(output(prefix.join("bin/cloison"), ["--version"]).starts_with("cloison "));
    for command in commands() {
        let page = prefix.join(format!("share/man/man1/cloison-{command}.1"));
        assert!(page.exists(), "{}", page.display());
    }
    for file in [
        "share/man/man1/cloison.1",
        "share/bash-completion/completions/cloison",
        "share/zsh/site-functions/_cloison",
        "share/fish/vendor_completions.d/cloison.fish",
        "share/doc/cloison/examples/example.toml",
        "share/doc/cloison/docs/package.md",
        "lib/sysusers.d/cloison.conf",
    ] {
        assert!(prefix.join(file).exists(), "{file}");
    }
    let text = fs::read_to_string(prefix.join("lib/systemd/system/cloison.service")).unwrap();
    assert!(unit(&text)["ExecStart"].starts_with("/opt/cloison/bin/cloison serve "), "{text}");
    // Nothing but the prefix.
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1);
}

#[test]
fn the_unit_waits_for_ready_and_gives_nothing_away() {
    let text = read("packaging/cloison.service");
    let unit = unit(&text);
    for (key, value) in [
        ("Type", "notify"),
        ("User", "cloison"),
        ("ExecStart", "/usr/bin/cloison serve --config /etc/cloison/cloison.toml"),
        ("EnvironmentFile", "-/etc/cloison/cloison.env"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ] {
        assert_eq!(unit.get(key), Some(&value), "{key}");
    }
    // A wrong configuration is not tried again and again.
    let usage = cloison::cli::EXIT_USAGE.to_string();
    assert_eq!(unit["RestartPreventExitStatus"], usage);
}

#[test]
fn the_packages_configuration_can_be_filled_in() {
    let text = read("packaging/cloison.toml");
    cloison::config::parse(&text, std::iter::empty()).unwrap();
}

/// Mode, owner and size or name of each file of a package, by its path.
fn contents(package: &str) -> BTreeMap<String, (String, String)> {
    let list = output("dpkg-deb", ["--contents", package]);
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[5].trim_start_matches('.').trim_end_matches('/');
        (name.to_owned(), (words[0].to_owned(), words[1].to_owned()))
    };
    list.lines().map(entry).collect()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn the_debian_package_holds_what_it_should_with_the_right_modes() {
    if !has("dpkg-deb") {
        println!("not tried: there is no dpkg-deb on this system");
        return;
    }
    let folder = Folder::new("deb");
    let make = |name: &str| {
        let target = folder.0.join(name);
        output(root().join("packaging/deb.sh"), [OsStr::new(PROGRAM), target.as_os_str()])
    };
    let package = make("first");
    let files = contents(&package);
    for (file, (mode, owner)) in &files {
        assert_eq!(owner, "root/root", "{file}");
        let wanted = match file.as_str() {
            "/usr/bin/cloison" => "-rwxr-xr-x",
            "/etc/cloison/cloison.toml" => "-rw-r-----",
            _ if mode.starts_with('d') => "drwxr-xr-x",
            _ => "-rw-r--r--",
        };
        assert_eq!(mode, wanted, "{file}");
    }
    for command in commands() {
        let page = format!("/usr/share/man/man1/cloison-{command}.1.gz");
        assert!(files.contains_key(&page), "{page}");
    }
    for file in [
        "/etc/cloison/cloison.toml",
        "/usr/lib/systemd/system/cloison.service",
        "/usr/share/doc/cloison/copyright",
        "/usr/share/zsh/vendor-completions/_cloison",
    ] {
        assert!(files.contains_key(file), "{file}");
    }

    let field = |name: &str| output("dpkg-deb", ["--field", &package, name]);
    assert_eq!(field("Version"), env!("CARGO_PKG_VERSION"));
    let depends = field("Depends");
    assert!(depends.contains("adduser") && depends.contains("libc6 (>= 2."), "{depends}");
    // Nobody is named who did not ask for it.
    assert_eq!(field("Maintainer"), "PLACEHOLDER <maintainers@example.invalid>");

    let control = folder.0.join("control");
    output("dpkg-deb", [OsStr::new("--control"), package.as_ref(), control.as_os_str()]);
    let conffiles = fs::read_to_string(control.join("conffiles")).unwrap();
    assert_eq!(conffiles, "/etc/cloison/cloison.toml\n");
    let sums = fs::read_to_string(control.join("md5sums")).unwrap();
    let of_usr =
        files.iter().filter(|(file, (mode, _))| file.starts_with("/usr/") && mode.starts_with('-'));
    assert_eq!(sums.lines().count(), of_usr.count());

    // The same tree and program make the same bytes.
    assert!(fs::read(package).unwrap() == fs::read(make("second")).unwrap());
}

#[test]
fn the_tarball_holds_what_it_should_and_comes_out_the_same() {
    let folder = Folder::new("dist");
    let make = |name: &str| {
        let target = folder.0.join(name);
        output(root().join("packaging/dist.sh"), [OsStr::new(PROGRAM), target.as_os_str()])
    };
    let tarball = make("first");
    let name = Path::new(&tarball).file_name().unwrap().to_str().unwrap();
    let top = name.strip_suffix(".tar.gz").unwrap();
    assert!(top.starts_with(&format!("cloison-{}-", env!("CARGO_PKG_VERSION"))), "{name}");
    let list = output("tar", ["--list", "--gzip", "--file", &tarball]);
    let files: Vec<&str> = list.lines().collect();
    for file in [
        "bin/cloison",
        "README.md",
        "LICENSE",
        "share/doc/cloison/examples/example.toml",
        "share/man/man1/cloison-serve.1",
        "share/bash-completion/completions/cloison",
        "lib/systemd/system/cloison.service",
    ] {
        assert!(files.contains(&format!("{top}/{file}").as_str()), "{file}: {list}");
    }
    assert!(fs::read(&tarball).unwrap() == fs::read(make("second")).unwrap());

    let sums = folder.0.join("first");
    output(root().join("packaging/checksums.sh"), [&sums]);
    let sums = fs::read_to_string(sums.join("SHA256SUMS")).unwrap();
    assert!(sums.trim_end().ends_with(name) && sums.lines().count() == 1, "{sums}");
}

#[test]
fn scripts_are_sound() {
    let mut scripts: Vec<PathBuf> =
        ["postinst", "prerm", "postrm"].map(|name| root().join("packaging/deb").join(name)).into();
    let files = fs::read_dir(root().join("packaging")).unwrap().map(|entry| entry.unwrap().path());
    scripts.extend(files.filter(|file| file.extension() == Some(OsStr::new("sh"))));
    assert!(scripts.len() > 6, "{scripts:?}");
    for script in &scripts {
        output("sh", [OsStr::new("-n"), script.as_os_str()]);
        let text = fs::read_to_string(script).unwrap();
        // Without it a step that fails goes unnoticed.
        assert!(text.lines().any(|line| line.starts_with("set -e")), "{}", script.display());
    }
    if has("shellcheck") {
        output("shellcheck", &scripts);
    }
}
