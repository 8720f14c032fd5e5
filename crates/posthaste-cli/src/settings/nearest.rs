//! Which of the valid words somebody probably meant.

/// The word of `valid` that is nearest to `typed`, if one is near enough to be worth naming.
pub(crate) fn nearest<'a>(
    typed: &str,
    valid: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let typed = typed.to_ascii_lowercase();
    let near = (typed.chars().count() / 3).max(1) + 1;
    valid
        .into_iter()
        .map(|word| (distance(&typed, word), word))
        .filter(|(distance, word)| *distance <= near && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// How many letters have to be added, taken away or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            left = changed.min(left + 1).min(diagonal + 1);
            row[j + 1] = left;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_different_word_is_not() {
        let fields = ["url", "payload_limit", "window", "lease_ttl"];
        assert_eq!(nearest("ulr", fields), Some("url"));
        assert_eq!(nearest("URL", fields), Some("url"));
        assert_eq!(nearest("payloadlimit", fields), Some("payload_limit"));
        assert_eq!(nearest("leasettl", fields), Some("lease_ttl"));
        assert_eq!(nearest("colour", fields), None);
        assert_eq!(nearest("x", fields), None);
    }

    #[test]
    fn distances_are_right() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
