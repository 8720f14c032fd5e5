//! What must not be written: code that is not safe, not finished, or not run.

use super::tree::Tree;
use super::{Finding, rust};

/// In code.
const CODE: [(&str, &str); 5] = [
    ("unsafe", "there is no unsafe code in this tree"),
    ("todo!", "finish it"),
    ("unimplemented!", "finish it, or leave it out so that it does not compile"),
    ("dbg!", "log it with tracing, or take it out"),
    ("#[ignore", "make the test run, or take it out"),
];

/// Anywhere in Rust.
const TEXT: [&str; 2] = [concat!("FIX", "ME"), concat!("XX", "X")];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.ending(".rs") {
        let code = rust::code(&file.text);
        for (word, advice) in CODE {
            for line in rust::lines_with(&code, word) {
                findings.push(Finding::new(&file.path, line, format!("`{word}`: {advice}")));
            }
        }
        for word in TEXT {
            for line in rust::lines_with(&file.text, word) {
                findings.push(Finding::new(&file.path, line, format!("`{word}`: do it now")));
            }
        }
    }
    findings
}

#[test]
fn each_word_is_found_in_code_and_not_in_prose() {
    for (word, _) in CODE {
        let text = format!("fn f() {{\n    {word}(1) }}");
        let findings = check(&Tree::of(&[("a.rs", &text)]));
        assert!(findings.len() == 1 && findings[0].line == 2, "{word}: {findings:?}");
        let prose = format!("// {word} is not written\nconst A: &str = \"{word}\";");
        assert_eq!(check(&Tree::of(&[("a.rs", &prose)])), []);
    }
    for word in TEXT {
        let text = format!("// {word} later");
        assert_eq!(check(&Tree::of(&[("a.rs", &text)])).len(), 1, "{word}");
    }
    assert_eq!(check(&Tree::of(&[("a.rs", "#![forbid(unsafe_code)]")])), []);
}
