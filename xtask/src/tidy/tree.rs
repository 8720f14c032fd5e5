//! The text files of the tree and its packages, in memory.

use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::workspace::{Package, Workspace};

/// What the rules look at.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: Vec<File>,
    pub(super) packages: Vec<Package>,
}

/// A text file.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the root, with forward slashes.
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    /// Reads the tree: every file that is UTF-8, outside of folders that cargo or git own.
    pub(super) fn read(workspace: &Workspace) -> Outcome<Self> {
        let mut tree = Self { files: Vec::new(), packages: workspace.packages.clone() };
        tree.visit(&workspace.root, "")?;
        tree.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(tree)
    }

    fn visit(&mut self, folder: &Path, path: &str) -> Outcome<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() && !["target", ".git", "node_modules"].contains(&name.as_str()) {
                self.visit(&entry.path(), &path)?;
            } else if kind.is_file()
                && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
            {
                self.files.push(File { path, text });
            }
        }
        Ok(())
    }

    /// A tree for a test.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |&(path, text): &(&str, &str)| File { path: path.into(), text: text.into() };
        Self { files: files.iter().map(file).collect(), packages: Vec::new() }
    }

    /// The file with this path.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// The files whose names end like this.
    pub(super) fn ending(&self, end: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.path.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_foreign_folders_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, bytes) in [
            ("a/b.rs", b"fn" as &[u8]),
            ("target/c.rs", b"no"),
            (".git/d", b"no"),
            ("picture", b"\xff\xfe"),
            (".ci/run", b"yes"),
        ] {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, bytes).expect("a file");
        }
        let root = folder.path().to_owned();
        let workspace = Workspace { target: root.join("target"), root, packages: Vec::new() };
        let tree = Tree::read(&workspace).expect("a tree");
        let paths: Vec<_> = tree.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".ci/run", "a/b.rs"]);
    }
}
