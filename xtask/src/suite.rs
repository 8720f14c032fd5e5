//! `cargo xtask test`: everything that can be wrong with the tree, and one line at the end.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::command::stream;
use crate::tally::{Dialect, Listener, Tally};
use crate::terminal::say;
use crate::workspace::{Workspace, cargo};
use crate::{Outcome, examples, tidy};

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

    /// The packages as cargo wants them.
    fn scope(&self) -> Vec<&str> {
        if self.packages.is_empty() {
            return vec!["--workspace"];
        }
        self.packages.iter().flat_map(|package| ["--package", package]).collect()
    }
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
    let mut run = cargo();
    let dialect = if has_nextest() {
        say("== tests (nextest)")?;
        run.args(["nextest", "run", "--no-fail-fast", "--no-tests=pass", "--status-level=pass"]);
        run.args(["--success-output=final", "--failure-output=immediate", "--color=never"]);
        run.args(selection.scope()).args(&selection.names);
        Dialect::Nextest
    } else {
        say("== tests (cargo test)")?;
        run.args(["test", "--no-fail-fast", "--color=never", "--lib", "--bins", "--tests"]);
        run.args(selection.scope()).args(["--", "--show-output"]).args(&selection.names);
        Dialect::Libtest
    };
    listen(workspace, &mut run, dialect, selection, report)
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

    fn parse(arguments: &[&str]) -> Result<Selection, String> {
        Selection::parse(&arguments.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments_are_understood_or_refused() {
        assert!(parse(&[]).is_ok_and(|all| all.is_all() && !all.no_skips));
        assert!(parse(&["--no-skips"]).is_ok_and(|all| all.is_all() && all.no_skips));
        let some = parse(&["-p", "xtask", "arguments"]).expect("known arguments");
        assert!(!some.is_all());
        assert_eq!(some.scope(), ["--package", "xtask"]);
        assert_eq!(some.names, ["arguments"]);
        assert!(parse(&["--fast"]).is_err() && parse(&["-p"]).is_err());
    }
}
