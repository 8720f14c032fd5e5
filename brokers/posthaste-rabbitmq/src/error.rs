//! How the broker fails, in words that name what to do. The only place that knows the codes of
//! AMQP and the texts of RabbitMQ.

use lapin::ErrorKind;
use posthaste_core::{BrokerError, StoreError, Unavailable};

/// What went wrong, by what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
    /// The request makes no sense, and never will.
    #[error("{0}")]
    Rejected(String),
    /// A person has to look.
    #[error("{0}")]
    Failed(String),
    /// Something that should be there is not.
    #[error("{0}")]
    Missing(String),
    /// It is there, and is not what was asked for.
    #[error("{0}")]
    Different(String),
    /// A right is missing.
    #[error("{0}")]
    Forbidden(String),
    /// The delivery is not ours any more.
    #[error("the lock is lost")]
    LockLost,
}

impl Failure {
    /// The same failure for a caller who keeps trying: all of it may be put right meanwhile.
    pub(crate) fn for_now(self) -> Self {
        Self::Unavailable(self.to_string())
    }
}

impl From<Failure> for BrokerError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LockLost => Self::LockLost,
            Failure::Unavailable(context) => Self::unavailable(context),
            Failure::Rejected(reason) => Self::rejected(reason),
            Failure::Failed(context)
            | Failure::Missing(context)
            | Failure::Different(context)
            | Failure::Forbidden(context) => Self::failed(context),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::LockLost | Failure::Unavailable(_) => Self::unavailable(failure.to_string()),
            Failure::Rejected(reason) => Self::rejected(reason),
            Failure::Failed(context)
            | Failure::Missing(context)
            | Failure::Different(context)
            | Failure::Forbidden(context) => Self::failed(context),
        }
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        Self::new(failure.to_string())
    }
}

/// AMQP's code of an error that the broker said; `None` if the broker did not say it.
pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(said) => Some(said.get_id()),
        _ => None,
    }
}

/// The broker's words without AMQP's own, bounded; of other errors the library's.
pub(crate) fn words(error: &lapin::Error) -> String {
    let text = match error.kind() {
        ErrorKind::ProtocolError(said) => said.get_message().to_string(),
        ErrorKind::IOError(cause) | ErrorKind::RuntimeShutdownError(cause) => cause.to_string(),
        _ => error.to_string(),
    };
    text.chars().take(400).collect::<String>().escape_debug().to_string()
}

/// Whether the connection ended because something that the broker sent could not be read.
pub(crate) fn is_unreadable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

/// Classifies why a request on a channel failed; `what` says what was tried.
pub(crate) fn in_request(what: &str, error: &lapin::Error) -> Failure {
    let words = words(error);
    match code(error) {
        Some(403) => Failure::Forbidden(format!("not allowed to {what}: {words}")),
        Some(404) => Failure::Missing(format!("could not {what}: {words}")),
        Some(406) => Failure::Different(format!("could not {what}: {words}")),
        None if matches!(error.kind(), ErrorKind::ParsingError(_)) => Failure::Failed(format!(
            "could not {what}: there is a message that this client cannot read ({words}): take it \
             out with the broker's own tools"
        )),
        Some(405) => Failure::Unavailable(format!("could not {what}: {words}")),
        _ => {
            Failure::Unavailable(format!("the connection was lost while trying to {what}: {words}"))
        }
    }
}

/// Classifies why a connection could not be opened; `shown` is the address.
pub(crate) fn in_connecting(shown: &str, user: &str, error: &lapin::Error) -> Failure {
    let words = words(error);
    match code(error) {
        Some(403) => Failure::Failed(format!(
            "{shown} does not let user '{}' in ({words}): correct user and password",
            user.escape_debug()
        )),
        Some(530) => Failure::Failed(format!(
            "{shown} refuses user '{}' in this vhost ({words}): create it, or give the user rights",
            user.escape_debug()
        )),
        _ => Failure::Unavailable(format!("cannot connect to {shown}: {words}")),
    }
}

/// What the broker named when it refused to let us write: an exchange, and a routing key if it
/// refuses that one only.
pub(crate) fn refused_route(error: &lapin::Error) -> Option<(String, Option<String>)> {
    if code(error) != Some(403) {
        return None;
    }
    let ErrorKind::ProtocolError(said) = error.kind() else { return None };
    route_in(said.get_message().as_str())
}

fn route_in(text: &str) -> Option<(String, Option<String>)> {
    Some((named(text, "exchange '")?, named(text, "access to topic '")))
}

/// The limit that the broker named when a message was larger.
pub(crate) fn size_limit(error: &lapin::Error) -> Option<usize> {
    if !matches!(code(error), Some(311 | 406)) {
        return None;
    }
    let ErrorKind::ProtocolError(said) = error.kind() else { return None };
    limit_in(said.get_message().as_str())
}

fn limit_in(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once("larger than configured max size ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

fn named(text: &str, before: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once('\'').map(|(name, _)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_broker_are_read() {
        let text = "PRECONDITION_FAILED - message size 200 is larger than configured max size 100";
        assert_eq!(limit_in(text), Some(100));
        assert_eq!(limit_in("PRECONDITION_FAILED - inequivalent arg 'type'"), None);
        let text = "ACCESS_REFUSED - access to exchange 'orders' in vhost '/' refused for user 'u'";
        assert_eq!(route_in(text), Some(("orders".to_owned(), None)));
        let text = "ACCESS_REFUSED - access to topic 'a.b' in exchange 'orders' in vhost '/' \
                    refused for user 'u'";
        assert_eq!(route_in(text), Some(("orders".to_owned(), Some("a.b".to_owned()))));
        assert_eq!(route_in("ACCESS_REFUSED - access to queue 'q'"), None);
    }
}
