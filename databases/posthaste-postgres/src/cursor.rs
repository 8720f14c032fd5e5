//! A checkpoint in a reader's hand: how far it has come, and in which life of the server.
//!
//! What is stored came through the same log as the rows, so it never says more than they do. What
//! a reader keeps in memory may: if the server goes on without its last commits, after a crash or
//! on a promoted standby, it gives numbers out again that such a cursor has passed. So a cursor
//! ends with the life of its server, and the reader loads what is stored.

use posthaste_core::frontier::Frontier;
use posthaste_core::{Checkpoint, StoreError};

use crate::number;

/// What stands between the checkpoint as it is stored and the life.
const MARK: char = '@';

/// See the module.
pub(crate) struct Cursor {
    pub(crate) frontier: Frontier,
    /// `None` for one that says nothing of what was read: the beginning.
    pub(crate) life: Option<String>,
}

impl Cursor {
    /// A checkpoint that a reader was given.
    pub(crate) fn parse(checkpoint: &Checkpoint) -> Result<Self, StoreError> {
        let (token, life) = split(checkpoint.as_str());
        let frontier = number::frontier(&Checkpoint::new(token))?;
        Ok(Self { frontier, life: life.map(str::to_owned) })
    }

    /// A stored checkpoint, loaded in a life of the server.
    pub(crate) fn load(token: &str, life: &str) -> Checkpoint {
        if token.is_empty() {
            return Checkpoint::start();
        }
        Checkpoint::new(format!("{token}{MARK}{life}"))
    }

    /// Takes note of the life in which the statement ran whose rows are to be taken.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] if it is another one.
    pub(crate) fn meet(&mut self, life: &str) -> Result<(), StoreError> {
        match &self.life {
            Some(own) if own != life => Err(StoreError::Fenced),
            Some(_) => Ok(()),
            None => {
                self.life = Some(life.to_owned());
                Ok(())
            }
        }
    }

    /// What the reader is given.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        let checkpoint = self.frontier.checkpoint();
        match &self.life {
            Some(life) => Self::load(checkpoint.as_str(), life),
            None => checkpoint,
        }
    }
}

/// A checkpoint as it is stored: without the life.
pub(crate) fn stored(checkpoint: &Checkpoint) -> Checkpoint {
    Checkpoint::new(split(checkpoint.as_str()).0)
}

fn split(token: &str) -> (&str, Option<&str>) {
    match token.split_once(MARK) {
        Some((token, life)) => (token, Some(life)),
        None => (token, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_holds_in_its_own_life_only() {
        let loaded = Cursor::load("v1;7", "2026-11-21 10:00:00.5+00 x");
        let mut cursor = Cursor::parse(&loaded).expect("parses");
        assert_eq!((cursor.checkpoint(), stored(&loaded).as_str()), (loaded, "v1;7"));
        assert!(matches!(cursor.meet("another"), Err(StoreError::Fenced)));
        cursor.meet("2026-11-21 10:00:00.5+00 x").expect("the same life");
    }

    #[test]
    fn the_beginning_holds_in_any_life_and_takes_on_the_first() {
        assert!(Cursor::load("", "one").is_start());
        let mut cursor = Cursor::parse(&Checkpoint::start()).expect("parses");
        cursor.meet("one").expect("any");
        assert!(cursor.meet("two").is_err());
    }
}
