//! What the tests need beside cargo: real servers, and other languages with their drivers. Where it
//! is missing and may be installed it is; where not, this says what is missing, and the tests that
//! need it say that they are skipped.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::command::within;
use crate::terminal::say;
use crate::workspace::Workspace;

/// How long a package manager may take.
const LONGEST: Duration = Duration::from_secs(900);
/// How long a look whether something is there may take.
const LOOK: Duration = Duration::from_secs(30);

/// The driver of Node.js, at the version that the tests are run with.
const NODE_DRIVER: &str = "pg@8.23.1";
/// Where Debian's Node.js packages are; only Debian's own Node.js looks there by itself.
const NODE_MODULES: &str = "/usr/share/nodejs";

/// Where Debian's JDBC driver for PostgreSQL is.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// Something that the tests need.
struct Need {
    what: &'static str,
    /// The Debian packages that have it.
    packages: &'static [&'static str],
    is_there: fn(&Workspace) -> bool,
}

const NEEDS: [Need; 9] = [
    Need {
        what: "PostgreSQL 14 or later",
        packages: &["postgresql"],
        is_there: |_| has_postgresql() || finds("initdb", ""),
    },
    Need {
        what: "RabbitMQ",
        packages: &["rabbitmq-server"],
        is_there: |_| finds("rabbitmq-server", "/usr/lib/rabbitmq/bin"),
    },
    Need {
        what: "PgBouncer",
        packages: &["pgbouncer"],
        is_there: |_| finds("pgbouncer", "/usr/sbin"),
    },
    Need {
        what: "btrfs, for disks whose power is cut",
        packages: &["btrfs-progs"],
        is_there: |_| finds("mkfs.btrfs", "/usr/sbin"),
    },
    Need {
        what: "Python 3 with sqlite3",
        packages: &["python3"],
        is_there: |_| succeeds(Command::new("python3").args(["-c", "import sqlite3"])),
    },
    Need {
        what: "Python's driver psycopg 3",
        packages: &["python3", "python3-psycopg"],
        is_there: |_| {
            // Packages are for the system's Python, which need not be the first one.
            let pythons = ["/usr/bin/python3", "python3"];
            let has_driver = |python| succeeds(Command::new(python).args(["-c", "import psycopg"]));
            pythons.into_iter().any(has_driver)
        },
    },
    Need {
        what: "Node.js with its driver pg",
        packages: &["nodejs", "node-pg"],
        is_there: |workspace| {
            let mut node = Command::new("node");
            succeeds(node.args(["-e", "require('pg')"]).env("NODE_PATH", node_path(workspace)))
        },
    },
    Need {
        what: "Java 17 or later, with its compiler",
        packages: &["default-jdk-headless"],
        is_there: |_| finds("javac", "") && finds("java", ""),
    },
    Need {
        what: "Java's driver JDBC",
        packages: &["libpostgresql-jdbc-java"],
        is_there: |_| Path::new(JDBC).is_file(),
    },
];

/// Installs what is missing if this process may, and says what is missing after that. Whether
/// nothing is.
pub(crate) fn provide(workspace: &Workspace) -> Outcome<bool> {
    provide_from(workspace, &NEEDS, root_with_apt)
}

fn provide_from(workspace: &Workspace, needs: &[Need], may: fn() -> bool) -> Outcome<bool> {
    let missing = || needs.iter().filter(|need| !(need.is_there)(workspace)).collect::<Vec<_>>();
    let mut still = missing();
    if !still.is_empty() {
        if may() {
            install(&still)?;
        }
        if still.iter().any(|need| need.packages.contains(&"node-pg")) && finds("node", "") {
            install_node_driver(workspace)?;
        }
        still = missing();
    }
    for need in &still {
        let packages = need.packages.join(" ");
        say(&format!("missing: {}; on Debian: apt-get install {packages}", need.what))?;
    }
    if still.is_empty() {
        say("everything that the tests need is there")?;
    } else {
        say("missing: tests that need it are skipped; as root on Debian they would be provided")?;
    }
    Ok(still.is_empty())
}

/// Where Node.js finds packages, for the tests that run it.
pub(crate) fn node_path(workspace: &Workspace) -> OsString {
    let known = env::var_os("NODE_PATH").unwrap_or_default();
    let own = node_folder(workspace).join("node_modules");
    let folders = env::split_paths(&known).chain([own, PathBuf::from(NODE_MODULES)]);
    let folders = folders.filter(|folder| !folder.as_os_str().is_empty());
    // A folder whose name cannot stand in the list leaves it as it was.
    env::join_paths(folders).unwrap_or(known)
}

fn node_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("xtask/node")
}

fn has_postgresql() -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.filter(|version| version.path().join("bin/initdb").is_file()).any(|version| {
        version.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|n: u32| n > 13)
    })
}

/// Whether a program is in a folder or on the search path.
fn finds(program: &str, folder: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = env::split_paths(&path).chain([PathBuf::from(folder)]);
    folders.any(|folder| folder.is_absolute() && folder.join(program).is_file())
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    within(LOOK, command).is_ok_and(|ended| ended.is_some_and(|status| status.success()))
}

fn root_with_apt() -> bool {
    let user = Command::new("id").arg("-u").output();
    user.is_ok_and(|user| user.stdout.trim_ascii() == b"0") && finds("apt-get", "/usr/bin")
}

/// Installs Debian packages without starting their services: the tests start servers of their own.
fn install(missing: &[&Need]) -> Outcome<()> {
    let mut packages: Vec<_> = missing.iter().flat_map(|need| need.packages).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    // Another Node.js than Debian's has no package of the driver that fits.
    if finds("node", "") {
        packages.retain(|package| !package.starts_with("node"));
    }
    if packages.is_empty() {
        return Ok(());
    }
    say(&format!("installing: {}", packages.join(" ")))?;
    let apt = |arguments: &[&str]| -> Outcome<bool> {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        apt.env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        Ok(within(LONGEST, &mut apt)?.is_some_and(|status| status.success()))
    };
    let _closed = Closed::start(Path::new("/usr/sbin/policy-rc.d"))?;
    let ready = apt(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    if !ready || !apt(&[&install[..], &packages].concat())? {
        say("installing: apt-get failed; its message is above")?;
    }
    Ok(())
}

fn install_node_driver(workspace: &Workspace) -> Outcome<()> {
    let folder = node_folder(workspace);
    fs::create_dir_all(&folder)?;
    say(&format!("installing: {NODE_DRIVER} in {}", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund"]);
    npm.args(["--no-package-lock", "--no-save", NODE_DRIVER]).current_dir(&folder);
    // What cannot be installed is told as missing.
    if !succeeds(&mut npm) {
        say("installing: npm failed, or is not installed")?;
    }
    Ok(())
}

/// For as long as this lives, Debian starts no service that it installs: unless the machine has
/// its own rule about that.
struct Closed<'a> {
    rule: Option<&'a Path>,
}

impl<'a> Closed<'a> {
    fn start(rule: &'a Path) -> Outcome<Self> {
        if rule.exists() {
            return Ok(Self { rule: None });
        }
        fs::write(rule, "#!/bin/sh\nexit 101\n")?;
        let closed = Self { rule: Some(rule) };
        #[cfg(unix)]
        fs::set_permissions(rule, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        Ok(closed)
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // It was made by this process; if it is gone, so much the better.
        drop(self.rule.map(fs::remove_file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(folder: &Path) -> Workspace {
        Workspace { root: folder.into(), target: folder.into(), packages: Vec::new() }
    }

    fn need(is_there: fn(&Workspace) -> bool) -> Need {
        Need { what: "a thing", packages: &["posthaste-no-such-package"], is_there }
    }

    #[test]
    fn what_is_missing_and_may_not_be_installed_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let workspace = workspace(folder.path());
        let provided = |needs: &[Need]| {
            provide_from(&workspace, needs, || false).expect("standard output can be written")
        };
        assert!(provided(&[]));
        assert!(provided(&[need(|_| true)]));
        assert!(!provided(&[need(|_| true), need(|_| false)]));
    }

    #[test]
    fn services_stay_off_while_packages_are_installed_and_the_machines_own_rule_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let rule = folder.path().join("policy-rc.d");
        let closed = Closed::start(&rule).expect("it can be written");
        let status = Command::new(&rule).status().expect("it can be run");
        assert_eq!(status.code(), Some(101));
        drop(closed);
        assert!(!rule.exists());
        fs::write(&rule, "own").expect("it can be written");
        drop(Closed::start(&rule).expect("nothing is to be written"));
        assert_eq!(fs::read_to_string(&rule).expect("it is there"), "own");
    }

    #[test]
    fn programs_are_found_by_path_or_folder() {
        assert!(finds("sh", "/bin") && !finds("posthaste-no-such-program", "/bin"));
        let path = node_path(&workspace(Path::new("/somewhere")));
        let folders: Vec<_> = env::split_paths(&path).collect();
        assert!(folders.contains(&PathBuf::from("/somewhere/xtask/node/node_modules")));
        assert!(folders.contains(&PathBuf::from(NODE_MODULES)));
    }
}
