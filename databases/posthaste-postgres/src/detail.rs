//! What a broker or a handler said, as far as it is kept.

/// Most bytes of it.
const MOST_BYTES: usize = 4096;

/// Bounded, and without what a text of PostgreSQL cannot hold.
pub(crate) fn kept(detail: &str) -> String {
    let mut end = detail.len().min(MOST_BYTES);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    detail[..end].replace('\0', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_cut_between_characters_and_holds_no_nul() {
        assert_eq!(kept("a\0b"), "a b");
        let long = "ü".repeat(MOST_BYTES);
        assert_eq!(kept(&long).len(), MOST_BYTES);
        assert_eq!(kept(&format!("a{long}")).len(), MOST_BYTES - 1);
    }
}
