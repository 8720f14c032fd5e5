//! The workspace as `cargo metadata` describes it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Outcome;

/// All packages of the tree.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Folder of the root manifest.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target: PathBuf,
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// A member of the workspace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder, relative to the root, with forward slashes.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) has_library: bool,
    /// Binary targets.
    pub(crate) binaries: Vec<String>,
    /// Targets in its `examples` folder.
    pub(crate) examples: Vec<String>,
}

/// What a package depends on.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Only for its tests, examples and benches.
    pub(crate) dev: bool,
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Asks cargo what is in the workspace of the working directory.
pub(crate) fn load() -> Outcome<Workspace> {
    let output = cargo()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo cannot be started: {error}"))?;
    if !output.status.success() {
        return Err("cargo metadata failed; its message is above".into());
    }
    parse(&serde_json::from_slice(&output.stdout)?).ok_or_else(|| {
        "cargo metadata says something unexpected; is this the cargo of rust-toolchain?".into()
    })
}

fn parse(metadata: &Value) -> Option<Workspace> {
    let root = PathBuf::from(metadata["workspace_root"].as_str()?);
    let target = PathBuf::from(metadata["target_directory"].as_str()?);
    let packages = metadata["packages"].as_array()?.iter().map(|value| package(&root, value));
    Some(Workspace { packages: packages.collect::<Option<Vec<_>>>()?, root, target })
}

fn package(root: &Path, value: &Value) -> Option<Package> {
    let manifest = Path::new(value["manifest_path"].as_str()?);
    let folder = manifest.parent()?.strip_prefix(root).ok()?;
    let mut package = Package {
        name: value["name"].as_str()?.to_owned(),
        folder: folder.to_str()?.replace('\\', "/"),
        ..Package::default()
    };
    for dependency in value["dependencies"].as_array()? {
        let name = dependency["name"].as_str()?.to_owned();
        package.dependencies.push(Dependency { name, dev: dependency["kind"] == "dev" });
    }
    for target in value["targets"].as_array()? {
        let name = target["name"].as_str()?.to_owned();
        match target["kind"][0].as_str()? {
            "bin" => package.binaries.push(name),
            "example" => package.examples.push(name),
            "lib" | "proc-macro" => package.has_library = true,
            _ => {}
        }
    }
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_can_be_read() {
        let workspace = load().expect("cargo metadata");
        let find = |name: &str| workspace.packages.iter().find(|package| package.name == name);
        let this = find("xtask").expect("this package");
        assert_eq!(this.folder, "xtask");
        assert!(this.dependencies.iter().any(|to| to.name == "tempfile" && to.dev));
        assert!(this.dependencies.iter().any(|to| to.name == "serde_json" && !to.dev));
        assert!(find("posthaste-core").is_some_and(|core| core.has_library));
        assert!(workspace.root.join("xtask/src/workspace.rs").is_file());
    }
}
