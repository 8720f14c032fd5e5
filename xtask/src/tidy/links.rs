//! Relative links in the documents lead to files, and to headings, that are there.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".md") {
        for (line, target) in links(&file.text) {
            if let Some(what) = broken(tree, &file.path, &target) {
                findings.push(Finding::new(&file.path, line, format!("`{target}`: {what}")));
            }
        }
    }
    findings
}

fn broken(tree: &Tree, from: &str, target: &str) -> Option<&'static str> {
    // An address elsewhere, or an item of the Rust documentation, which rustdoc checks itself.
    if target.contains("://") || target.starts_with("mailto:") || target.contains("::") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { Some(from.to_owned()) } else { resolve(from, path) };
    let Some(path) = path else { return Some("leads out of the tree") };
    let folder = format!("{path}/");
    let Some(file) = tree.file(&path) else {
        let is_folder = path.is_empty() || tree.files.iter().any(|f| f.path.starts_with(&folder));
        return (!is_folder).then_some("there is no such file");
    };
    let checked = !anchor.is_empty() && file.path.ends_with(".md");
    (checked && !anchors(&file.text).contains(anchor)).then_some("there is no such heading")
}

/// The path that a link in `from` means, relative to the root.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    let link = match link.strip_prefix('/') {
        Some(absolute) => {
            parts.clear();
            absolute
        }
        None => link,
    };
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The lines outside of fenced code, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fence: Option<&str> = None;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let mark = ["```", "~~~"].into_iter().find(|mark| line.trim_start().starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((at + 1, line)),
            _ => {}
        }
        None
    })
}

/// Targets of `[text](target)` and `[name]: target`, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text) {
        // Code spans are blanked; a link's text may be one, its target may not.
        let line: String = line
            .split('`')
            .enumerate()
            .map(|(at, part)| if at % 2 == 0 { part } else { "" })
            .collect();
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or_default();
            links.push((number, first_word(target)));
        }
        if line.starts_with('[')
            && let Some((_, target)) = line.split_once("]: ")
        {
            links.push((number, first_word(target)));
        }
    }
    links
}

/// A target without its title.
fn first_word(target: &str) -> String {
    let word = target.split_whitespace().next().unwrap_or_default();
    word.trim_matches(['<', '>']).to_owned()
}

/// The anchors of a document's headings, as they are made by the usual hosts of code.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let title = line.trim_start_matches('#');
        let depth = line.len() - title.len();
        if !(1..=6).contains(&depth) || !title.starts_with(' ') {
            continue;
        }
        let slug = slug(title.trim());
        let count = seen.entry(slug.clone()).or_default();
        anchors.insert(if *count == 0 { slug } else { format!("{slug}-{count}") });
        *count += 1;
    }
    anchors
}

fn slug(title: &str) -> String {
    let lower = title.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = "# The `guide`: one, two\n## Again\n## Again\n```\n# Not a heading\n```\n";

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("README.md", "# Top\n"),
            ("docs/guide.md", GUIDE),
            ("docs/page.md", text),
            ("crates/a/src/lib.rs", ""),
        ]);
        check(&tree).into_iter().map(|found| format!("{}:{}", found.path, found.line)).collect()
    }

    #[test]
    fn good_links_are_fine() {
        for link in [
            "guide.md",
            "./guide.md",
            "../README.md",
            "../README.md#top",
            "/README.md",
            "#here-i-am",
            "guide.md#the-guide-one-two",
            "guide.md#again",
            "guide.md#again-1",
            "../crates/a",
            "..",
            "https://example.com/x.md#y",
            "mailto:a@example.com",
            "crate::frontier",
            "<guide.md>",
            "guide.md \"Title\"",
            "../crates/a/src/lib.rs#L5",
        ] {
            let text =
                format!("# Here I am\n[a]({link}) and ![b]({link}), [`c`]({link})\n\n[d]: {link}");
            assert_eq!(found(&text), [""; 0], "{link}");
        }
        assert_eq!(found("```\n[a](no.md)\n```\n`[a](no.md)`"), [""; 0]);
    }

    #[test]
    fn broken_links_are_found() {
        for link in [
            "no.md",
            "../guide.md",
            "../../README.md",
            "#there",
            "guide.md#not-a-heading",
            "guide.md#again-2",
            "../crates/b",
            "../READ",
        ] {
            assert_eq!(found(&format!("one\n[a]({link})")), ["docs/page.md:2"], "{link}");
            assert_eq!(found(&format!("[a]: {link}")), ["docs/page.md:1"], "{link}");
        }
    }
}
