//! Just enough of Rust's grammar to tell code from comments and literals.

/// The text with comments, strings and characters blanked out; lines stay where they are.
pub(super) fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_word = false;
    while let Some(first) = rest.chars().next() {
        let length = if in_word { None } else { raw_string(rest) };
        let length = length.or_else(|| other(rest));
        let (skipped, after) = rest.split_at(length.unwrap_or(first.len_utf8()));
        if length.is_some() {
            code.extend(skipped.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            code.push(first);
        }
        in_word = length.is_none() && (first.is_alphanumeric() || first == '_');
        rest = after;
    }
    code
}

/// Whether code names a word, which may be a path or end with a bracket; on which lines.
pub(super) fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    let starts_inside = word.starts_with(inside);
    let ends_inside = word.ends_with(inside);
    let on_line = |line: &str| {
        line.match_indices(word).any(|(at, _)| {
            let before = line[..at].chars().next_back().is_some_and(inside);
            let after = line[at + word.len()..].chars().next().is_some_and(inside);
            !(starts_inside && before || ends_inside && after)
        })
    };
    code.lines().enumerate().filter(|(_, line)| on_line(line)).map(|(at, _)| at + 1).collect()
}

/// Length of a raw string that starts here.
fn raw_string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| text.starts_with(prefix))?;
    let hashes = text[prefix.len()..].bytes().take_while(|&byte| byte == b'#').count();
    let start = prefix.len() + hashes;
    let body = text[start..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(body.find(&end).map_or(text.len(), |at| start + 1 + at + end.len()))
}

/// Length of a comment, a string or a character that starts here.
fn other(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    if text.starts_with('"') {
        return Some(quoted(text, '"'));
    }
    let mut inside = text.strip_prefix('\'')?.chars();
    match (inside.next()?, inside.next()) {
        ('\\', _) | (_, Some('\'')) => Some(quoted(text, '\'')),
        _ => None, // A lifetime.
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text.as_bytes()[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if text.as_bytes()[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at.min(text.len())
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_code_is_not() {
        let text = r####"let a = "x \" y"; // x
/* x /* x */ x */ let b: &'x str = 'x';
let c = r#"x " x"#; let d = '\''; let e = b"x"; real(x)
let f = "
x"; bar"####;
        let code = code(text);
        assert_eq!(code.lines().count(), text.lines().count());
        let lines: Vec<_> = code.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "let a =         ;");
        assert_eq!(lines[1].trim(), "let b: &'x str =    ;");
        assert!(lines[2].ends_with("real(x)") && lines[2].matches('x').count() == 1);
        assert_eq!(lines[4], "  ; bar");
    }

    #[test]
    fn words_are_whole_words() {
        let code = "a Instant\nInstantly\nmy_Instant\nx::Instant::now()\nsleep (1)\nsleep(1)";
        assert_eq!(lines_with(code, "Instant"), [1, 4]);
        assert_eq!(lines_with(code, "Instant::now"), [4]);
        assert_eq!(lines_with(code, "sleep("), [6]);
    }
}
