//! `cargo xtask test`: everything that can be wrong with the tree, and one line at the end.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command::stream;
use crate::tally::{Dialect, Listener, Tally};
use crate::terminal::say;
use crate::workspace::{Package, Workspace, cargo};
use crate::{Outcome, examples, packages, tidy};

/// Which tests to run, and how strictly.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// A skipped test is a failure.
    pub(crate) no_skips: bool,
    packages: Vec<String>,
    names: Vec<String>,
}

impl Selection {
    /// From the arguments behind `test`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut selection = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--no-skips" => selection.no_skips = true,
                "-p" | "--package" => match arguments.next() {
                    Some(name) => selection.packages.push(name.clone()),
                    None => return Err(format!("{argument} needs the name of a package")),
                },
                option if option.starts_with('-') => {
                    return Err(format!("test has no option `{option}`"));
                }
                name => selection.names.push(name.to_owned()),
            }
        }
        Ok(selection)
    }

    fn is_all(&self) -> bool {
        self.packages.is_empty() && self.names.is_empty()
    }

    /// The packages of one part as cargo wants them; nothing if none of them is selected.
    fn scope(&self, workspace: &Workspace, part: Part) -> Option<Vec<String>> {
        let sharing = workspace.packages.iter().filter(|package| shares_servers(package));
        let sharing: Vec<_> = sharing.map(|package| package.name.clone()).collect();
        let all = self.packages.is_empty();
        let scope = match part {
            Part::Sharing if all => options("--package", &sharing),
            Part::Others if all => {
                [vec!["--workspace".to_owned()], options("--exclude", &sharing)].concat()
            }
            Part::Whole if all => vec!["--workspace".to_owned()],
            Part::Whole => options("--package", &self.packages),
            Part::Sharing | Part::Others => {
                let mut names = self.packages.clone();
                names.retain(|name| sharing.contains(name) == (part == Part::Sharing));
                options("--package", &names)
            }
        };
        Some(scope).filter(|scope| !scope.is_empty())
    }
}

fn options(option: &str, names: &[String]) -> Vec<String> {
    names.iter().flat_map(|name| [option.to_owned(), name.clone()]).collect()
}

/// Which of the packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    /// Those whose tests share a server within their process.
    Sharing,
    Others,
}

/// The package whose servers tests share. They live as long as the process that started them, so
/// that a runner with a process for each test would start one for each test.
const SERVERS: &str = "posthaste-servers";

fn shares_servers(package: &Package) -> bool {
    package.name == SERVERS || package.dependencies.iter().any(|other| other.name == SERVERS)
}

/// What has been run so far.
#[derive(Default)]
struct Report {
    tally: Tally,
    skips: Vec<(String, String)>,
}

/// Runs what is selected and says how it went; the last line is the count.
pub(crate) fn run(workspace: &Workspace, selection: &Selection) -> Outcome<bool> {
    let started = Instant::now();
    let mut report = Report::default();
    if selection.is_all() {
        say("== packages")?;
        packages::provide(workspace)?;
    }
    if build_binaries(workspace)? {
        tests(workspace, selection, &mut report)?;
        doc_tests(workspace, selection, &mut report)?;
        if selection.is_all() {
            report.tally += examples::run(workspace)?;
        }
    } else {
        say("the binaries do not build")?;
        report.tally.failed += 1;
    }
    if selection.is_all() {
        say("== tidy")?;
        report.tally += tidy::run(workspace)?;
    }
    for (test, reason) in &report.skips {
        say(&format!(
            "skipped: {reason} ({})",
            if test.is_empty() { "unnamed test" } else { test }
        ))?;
    }
    let Tally { passed, failed, skipped } = report.tally;
    let strict = selection.no_skips && skipped > 0;
    if strict {
        say("a skipped test is a failure here (--no-skips)")?;
    }
    if passed + failed + skipped == 0 {
        say("no test fits")?;
    }
    say(&format!("== took {} s", started.elapsed().as_secs()))?;
    say(&format!("{passed} passed, {failed} failed, {skipped} skipped"))?;
    Ok(failed == 0 && passed > 0 && !strict)
}

/// The binaries that tests start, whatever package they are of.
fn build_binaries(workspace: &Workspace) -> Outcome<bool> {
    say("== build")?;
    let mut build = cargo();
    build.args(["build", "--workspace", "--bins"]).current_dir(&workspace.root);
    Ok(build.status()?.success())
}

fn has_nextest() -> bool {
    let mut ask = cargo();
    ask.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

fn tests(workspace: &Workspace, selection: &Selection, report: &mut Report) -> Outcome<()> {
    let libtest = if has_nextest() {
        if let Some(scope) = selection.scope(workspace, Part::Others) {
            say("== tests (nextest)")?;
            let mut run = cargo();
            run.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass", "--color=never"]);
            run.args(["--status-level=pass", "--success-output=final"]);
            run.arg("--failure-output=immediate").args(scope).args(&selection.names);
            listen(workspace, &mut run, Dialect::Nextest, selection, report)?;
        }
        Part::Sharing
    } else {
        Part::Whole
    };
    if let Some(scope) = selection.scope(workspace, libtest) {
        say("== tests (cargo test)")?;
        let mut run = cargo();
        run.args(["test", "--no-fail-fast", "--color=never", "--lib", "--bins", "--tests"]);
        run.args(scope).args(["--", "--show-output"]).args(&selection.names);
        listen(workspace, &mut run, Dialect::Libtest, selection, report)?;
    }
    Ok(())
}

fn doc_tests(workspace: &Workspace, selection: &Selection, report: &mut Report) -> Outcome<()> {
    let chosen = |name: &String| {
        selection.packages.is_empty() || selection.packages.iter().any(|package| package == name)
    };
    let libraries = workspace.packages.iter().filter(|package| package.has_library);
    let names: Vec<_> =
        libraries.map(|package| &package.name).filter(|name| chosen(name)).collect();
    if names.is_empty() {
        return Ok(());
    }
    say("== examples in the documentation")?;
    let mut run = cargo();
    run.args(["test", "--doc", "--no-fail-fast", "--color=never"]);
    for name in names {
        run.args(["--package", name]);
    }
    run.args(["--", "--show-output"]).args(&selection.names);
    listen(workspace, &mut run, Dialect::Libtest, selection, report)
}

fn listen(
    workspace: &Workspace,
    run: &mut Command,
    dialect: Dialect,
    selection: &Selection,
    report: &mut Report,
) -> Outcome<()> {
    let binary = workspace.target.join("debug/posthaste");
    run.env("POSTHASTE_BIN", binary.with_extension(std::env::consts::EXE_EXTENSION));
    run.env("NODE_PATH", packages::node_path(workspace));
    let mut listener = Listener::new(dialect);
    let status = stream(run.current_dir(&workspace.root), |line| {
        if listener.hear(line) {
            say(line)?;
        }
        Ok(())
    })?;
    let (tally, skips) = listener.end(status.success(), !selection.is_all());
    report.tally += tally;
    report.skips.extend(skips);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn parse(arguments: &[&str]) -> Result<Selection, String> {
        Selection::parse(&arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        assert!(parse(&[]).is_ok_and(|all| all.is_all() && !all.no_skips));
        assert!(parse(&["--no-skips"]).is_ok_and(|all| all.is_all() && all.no_skips));
        let some = parse(&["-p", "xtask", "arguments"]).expect("known arguments");
        assert!(!some.is_all());
        assert_eq!(some.names, ["arguments"]);
        assert!(parse(&["--fast"]).is_err() && parse(&["-p"]).is_err());
    }

    #[test]
    fn packages_that_share_servers_are_run_apart() {
        let package = |name: &str, dependencies: &[&str]| Package {
            name: name.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|&name| Dependency { name: name.to_owned(), dev: true })
                .collect(),
            ..Package::default()
        };
        let packages = vec![package("a", &["c"]), package("b", &[SERVERS]), package(SERVERS, &[])];
        let tree = Workspace { root: "".into(), target: "".into(), packages };
        let scope = |arguments: &[&str], part| {
            let selection = parse(arguments).expect("known arguments");
            selection.scope(&tree, part).map(|scope| scope.join(" "))
        };
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(scope(&[], Part::Whole), is("--workspace"));
        assert_eq!(scope(&[], Part::Sharing), is("--package b --package posthaste-servers"));
        assert_eq!(
            scope(&[], Part::Others),
            is("--workspace --exclude b --exclude posthaste-servers")
        );
        let some = ["-p", "a", "-p", "b"];
        assert_eq!(scope(&some, Part::Whole), is("--package a --package b"));
        assert_eq!(scope(&some, Part::Sharing), is("--package b"));
        assert_eq!(scope(&some, Part::Others), is("--package a"));
        assert_eq!(scope(&["-p", "a"], Part::Sharing), None);
        assert_eq!(scope(&["-p", "b"], Part::Others), None);
    }
}
