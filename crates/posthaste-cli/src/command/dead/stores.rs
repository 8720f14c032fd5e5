//! Where dead letters are: in the database, and with the broker if it keeps some.

use std::str::FromStr;
use std::sync::Arc;

use posthaste_core::dead_letter::{DeadFilter, DeadLetter, DeadLetters};
use posthaste_core::{Database, MessageId, StoreError};

use crate::context::Context;
use crate::failure::{Failure, sentence};
use crate::output::Output;
use crate::settings::validation::Needs;

/// One of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Database,
    Broker,
}

/// What somebody calls a dead letter by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// Its reference in one of the places.
    Reference(Place),
    /// The id of its message, which may be in either.
    Id,
}

impl Name {
    /// References of a broker hold a `#` or a `/`, which no number and no id does.
    pub(super) fn of(text: &str) -> Self {
        match text {
            text if text.contains(['#', '/']) => Self::Reference(Place::Broker),
            text if MessageId::from_str(text).is_ok() => Self::Id,
            _ => Self::Reference(Place::Database),
        }
    }
}

/// What went wrong in a place, for people. The seam calls every store a database.
pub(super) fn said(place: Place, error: &StoreError) -> String {
    let sentence = sentence(error);
    match (place, sentence.strip_prefix("database ")) {
        (Place::Broker, Some(rest)) => format!("broker {rest}"),
        _ => sentence,
    }
}

/// The same, as the end of a command.
pub(super) fn told(place: Place, error: &StoreError) -> Failure {
    Failure::failed(said(place, error))
}

/// The places that are configured.
pub(super) struct Stores {
    database: Option<Arc<dyn Database>>,
    broker: Option<Arc<dyn DeadLetters>>,
    /// Why the broker could not be opened although it is wanted.
    trouble: Option<Failure>,
    /// Whether the broker holds what cannot be seen, because nobody has named its queues.
    is_unnamed: bool,
}

/// What to do about queues that nobody has named.
const NAME_THEM: &str = "the broker tells no names of queues: set [broker] subscriptions (TOPIC.NAME) \
    to see the dead letters it holds";

impl Stores {
    /// Opens the places that `names` may be in; both if there are no names. A broker that cannot
    /// be opened does not hide the database, see [`Stores::whole`].
    ///
    /// # Errors
    /// If there is no place, or the database is wanted and cannot be opened.
    pub(super) async fn open(context: &Context, names: &[String]) -> Result<Self, Failure> {
        let configuration = context.configuration(Needs::default(), "warn")?;
        let wanted = |place: Place| {
            let may_hold = |name: Name| name == Name::Id || name == Name::Reference(place);
            names.is_empty() || names.iter().any(|name| may_hold(Name::of(name)))
        };
        let mut stores = Self { database: None, broker: None, trouble: None, is_unnamed: false };
        if wanted(Place::Database) && configuration.database.is_some() {
            let database = configuration.open_database(&context.registry, false).await?;
            stores.database = Some(database);
        }
        if wanted(Place::Broker) && configuration.leaves_queues_unnamed(&context.registry) {
            stores.is_unnamed = true;
        } else if wanted(Place::Broker) && configuration.has_broker() {
            match configuration.open_broker(&context.registry).await {
                Ok(open) => stores.broker = open.dead_letters,
                Err(failure) if stores.database.is_some() => stores.trouble = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        if stores.database.is_none() && stores.is_unnamed {
            return Err(Failure::usage(NAME_THEM));
        }
        if stores.database.is_none() && stores.broker.is_none() {
            return Err(Failure::usage(match configuration.has_broker() {
                true => "this broker shows no dead letters: pass --database URL",
                false => "no place to look for dead letters: pass --database URL, or --broker URL",
            }));
        }
        Ok(stores)
    }

    /// These, if no place is missing.
    ///
    /// # Errors
    /// Why the broker could not be opened.
    pub(super) fn whole(self) -> Result<Self, Failure> {
        match self.trouble {
            Some(failure) => Err(failure),
            None => Ok(self),
        }
    }

    /// Whether the broker could not be opened; says so.
    pub(super) fn is_partial(&self, output: Output) -> bool {
        if let Some(Failure::Failed { message } | Failure::Usage { message, .. }) = &self.trouble {
            output.warn(&format!("{message}; its dead letters are missing here"));
        }
        self.trouble.is_some()
    }

    /// Warns of a broker that holds what cannot be seen.
    pub(super) fn warn_of_unnamed(&self, output: Output) {
        if self.is_unnamed {
            output.warn(NAME_THEM);
        }
    }

    /// A place, if it is configured.
    pub(super) fn get(&self, place: Place) -> Option<&dyn DeadLetters> {
        match place {
            Place::Database => {
                let database: &dyn Database = self.database.as_deref()?;
                Some(database)
            }
            Place::Broker => self.broker.as_deref(),
        }
    }

    /// The dead letter of this name.
    ///
    /// # Errors
    /// If there is none, or several have this message id.
    pub(super) async fn find(&self, name: &str) -> Result<(Place, DeadLetter), Failure> {
        if let Name::Reference(place) = Name::of(name) {
            let Some(store) = self.get(place) else {
                return Err(Failure::usage(match place {
                    Place::Database => "no database is configured: pass --database URL",
                    Place::Broker => "no broker with dead letters is configured: pass --broker URL",
                }));
            };
            let found = store.get(name).await.map_err(|error| told(place, &error))?;
            return found.map(|dead| (place, dead)).ok_or_else(|| self.nothing(name));
        }
        let mut found = Vec::new();
        for place in [Place::Database, Place::Broker] {
            let Some(store) = self.get(place) else { continue };
            let filter =
                DeadFilter { id: Some(name.to_owned()), limit: 10, ..DeadFilter::default() };
            let listed = store.list(&filter).await.map_err(|error| told(place, &error))?;
            found.extend(listed.into_iter().map(|dead| (place, dead)));
        }
        if found.len() > 1 {
            let references = found.iter().map(|(_, dead)| dead.reference.as_str());
            let references = references.collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(format!(
                "several dead letters have the message id {name}; name one of them: {references}"
            )));
        }
        found.pop().ok_or_else(|| self.nothing(name))
    }

    fn nothing(&self, name: &str) -> Failure {
        let unseen = match self.is_unnamed {
            true => format!("; {NAME_THEM}"),
            false => String::new(),
        };
        Failure::failed(format!(
            "there is no dead letter {name}; 'posthaste dead list' shows those that are there{unseen}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_to_look() {
        assert_eq!(Name::of("17"), Name::Reference(Place::Database));
        assert_eq!(Name::of("orders/shipping#17"), Name::Reference(Place::Broker));
        assert_eq!(Name::of("orders.shipping/17"), Name::Reference(Place::Broker));
        assert_eq!(Name::of("01932d4e-8f00-7a3b-9c4d-1e2f3a4b5c6d"), Name::Id);
    }
}
