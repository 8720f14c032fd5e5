//! Which package may know which. All arrows point one way: backends know the core and nothing else,
//! the engine knows no backend, and nobody knows this program.

use super::Finding;
use super::tree::Tree;
use crate::workspace::{Dependency, Package};

/// What a room may depend on, and what its tests may use beside that. A room is a package, or a
/// folder of packages that ends with `/`.
struct Room {
    name: &'static str,
    may: &'static [&'static str],
    tests_may: &'static [&'static str],
}

/// Stands for every package except this one, the proofs and the servers of the tests.
const ALL: &str = "*";
const SERVERS: &str = "posthaste-servers";
const CORE: &str = "posthaste-core";
const KIT: &[&str] = &["posthaste", "posthaste-conformance", "posthaste-history", CORE];

const SERVED_KIT: &[&str] =
    &["posthaste", "posthaste-conformance", "posthaste-history", CORE, SERVERS];

const ROOMS: [Room; 15] = [
    Room { name: "posthaste-core", may: &[], tests_may: &[] },
    Room { name: "posthaste-history", may: &[CORE], tests_may: &[] },
    Room { name: "posthaste", may: &[CORE], tests_may: KIT },
    Room { name: "posthaste-bus", may: &[CORE], tests_may: KIT },
    Room { name: "posthaste-http", may: &["posthaste", CORE], tests_may: KIT },
    Room { name: "posthaste-conformance", may: &["posthaste", CORE], tests_may: &[] },
    Room { name: "posthaste-cli", may: &[ALL], tests_may: &[ALL, SERVERS] },
    Room { name: "databases/", may: &[CORE], tests_may: SERVED_KIT },
    Room { name: "brokers/", may: &[CORE], tests_may: SERVED_KIT },
    Room { name: "proof", may: &[ALL, SERVERS], tests_may: &[ALL] },
    Room { name: "proof/servers", may: &[], tests_may: &[] },
    Room {
        name: "proof/simulator",
        may: &["posthaste-history", CORE],
        tests_may: &["posthaste-postgres", "posthaste-sqlite", SERVERS],
    },
    Room { name: "bench", may: &[ALL, SERVERS], tests_may: &[ALL] },
    Room { name: "examples/", may: &[ALL], tests_may: &[ALL] },
    Room { name: "xtask", may: &[], tests_may: &[] },
];

/// Nobody builds on these; on the last one only who names it.
const LEAVES: [&str; 6] =
    ["proof", "bench", "xtask", "posthaste-cli", "proof/servers", "proof/simulator"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some(room) = ROOMS.iter().find(|room| room.holds(package)) else {
            let what = format!("`{}` is in no room: see xtask/src/tidy/arrows.rs", package.name);
            findings.push(Finding::new(&manifest, 0, what));
            continue;
        };
        for dependency in &package.dependencies {
            let target = tree.packages.iter().find(|other| other.name == dependency.name);
            if target.is_some_and(|target| !room.allows(dependency, target)) {
                let what = format!("`{}` must not know `{}`", package.name, dependency.name);
                findings.push(Finding::new(&manifest, 0, what));
            }
        }
    }
    findings
}

impl Room {
    fn holds(&self, package: &Package) -> bool {
        let folder = package.folder.as_str();
        match self.name.strip_suffix('/') {
            Some(_) => folder.starts_with(self.name),
            None => folder == self.name || folder.strip_prefix("crates/") == Some(self.name),
        }
    }

    fn allows(&self, dependency: &Dependency, target: &Package) -> bool {
        let named = |list: &[&str]| {
            list.contains(&dependency.name.as_str())
                || list.contains(&ALL) && !LEAVES.iter().any(|leaf| target.folder.ends_with(leaf))
        };
        named(self.may) || dependency.dev && named(self.tests_may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, dependencies: &[(&str, bool)]) -> Package {
        let last = folder.rsplit('/').next().unwrap_or(folder);
        let name = if last == "servers" { SERVERS } else { last }.to_owned();
        let dependency = |&(name, dev): &(&str, bool)| Dependency { name: name.into(), dev };
        let dependencies = dependencies.iter().map(dependency).collect();
        Package { name, folder: folder.into(), dependencies, ..Package::default() }
    }

    fn wrong(packages: Vec<Package>) -> Vec<String> {
        let tree = Tree { packages, ..Tree::default() };
        check(&tree).into_iter().map(|found| found.what).collect()
    }

    fn house(changed: Package) -> Vec<Package> {
        let mut packages = vec![
            package("crates/posthaste-core", &[("serde", false)]),
            package("crates/posthaste", &[("posthaste-core", false)]),
            package("crates/posthaste-bus", &[("posthaste-core", false)]),
            package("crates/posthaste-conformance", &[("posthaste", false)]),
            package("databases/posthaste-sqlite", &[("posthaste-conformance", true)]),
            package("databases/posthaste-postgres", &[(SERVERS, true)]),
            package("brokers/posthaste-rabbitmq", &[(SERVERS, true)]),
            package("crates/posthaste-cli", &[("posthaste-sqlite", false), (SERVERS, true)]),
            package("proof", &[("posthaste-bus", false), (SERVERS, false)]),
            package("proof/servers", &[("tokio", false)]),
            package("xtask", &[("serde_json", false)]),
        ];
        packages.retain(|package| package.folder != changed.folder);
        packages.push(changed);
        packages
    }

    #[test]
    fn the_house_as_designed_is_fine() {
        assert_eq!(
            wrong(house(package("examples/first", &[("posthaste-sqlite", false)]))),
            [""; 0]
        );
    }

    #[test]
    fn each_wrong_arrow_is_found() {
        for (folder, target, dev) in [
            ("crates/posthaste-core", "posthaste", false),
            ("crates/posthaste-core", "posthaste-conformance", true),
            ("crates/posthaste", "posthaste-sqlite", false),
            ("crates/posthaste", "posthaste-conformance", false),
            ("databases/posthaste-sqlite", "posthaste", false),
            ("databases/posthaste-sqlite", "posthaste-postgres", true),
            ("crates/posthaste-bus", "posthaste-sqlite", false),
            ("crates/posthaste-conformance", "posthaste-bus", true),
            ("crates/posthaste-cli", "proof", false),
            ("crates/posthaste-cli", SERVERS, false),
            ("databases/posthaste-postgres", SERVERS, false),
            ("crates/posthaste", SERVERS, true),
            ("examples/first", SERVERS, false),
            ("proof/servers", "posthaste-core", true),
            ("proof", "xtask", true),
            ("xtask", "posthaste-core", false),
        ] {
            let found = wrong(house(package(folder, &[(target, dev)])));
            assert_eq!(found.len(), 1, "{folder} -> {target}: {found:?}");
            assert!(found[0].contains(target), "{found:?}");
        }
    }

    #[test]
    fn a_package_without_a_room_is_found() {
        assert_eq!(wrong(house(package("crates/posthaste-attic", &[]))).len(), 1);
    }
}
