//! How a command ends when it does not end well: one sentence, findings if there are any, and an
//! exit status (1 failed, 2 wrong use, 3 nothing can be said).

use std::error::Error;
use std::io;
use std::process::ExitCode;

use posthaste_core::finding::Finding;
use posthaste_core::{BrokerError, Invalid, StoreError};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was used in a way that cannot work: exit status 2.
    Usage {
        /// One sentence that names what to do.
        message: String,
        /// Every mistake, if there are several.
        findings: Vec<Finding>,
    },
    /// It could not do it: exit status 1.
    Failed {
        /// One sentence that names what to do.
        message: String,
    },
    /// It has said all there is to say and failed: exit status 1.
    Told,
    /// It has said that there is too little to say anything: exit status 3.
    Invalid,
    /// Nobody reads the output any more, which is no mistake: exit status 0.
    Closed,
}

impl Failure {
    /// Wrong use.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), findings: Vec::new() }
    }

    /// Failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into() }
    }

    /// Mistakes in the settings.
    pub(crate) fn settings(findings: Vec<Finding>) -> Self {
        let message = match findings.len() {
            1 => "the settings have a mistake".to_owned(),
            count => format!("the settings have {count} mistakes"),
        };
        Self::Usage { message, findings }
    }

    /// No database is configured.
    pub(crate) fn no_database() -> Self {
        Self::usage("no database: pass --database URL or set POSTHASTE_DATABASE_URL")
    }

    /// No broker is configured.
    pub(crate) fn no_broker() -> Self {
        Self::usage("no broker: pass --broker URL or set POSTHASTE_BROKER_URL")
    }

    /// Output could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// The same, with what went wrong besides.
    pub(crate) fn and(self, other: Option<Self>) -> Self {
        match (self, other) {
            (Self::Failed { message }, Some(Self::Failed { message: other })) => {
                Self::failed(format!("{message}; {other}"))
            }
            (failure, _) => failure,
        }
    }

    /// The exit status.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } => ExitCode::from(2),
            Self::Failed { .. } | Self::Told => ExitCode::from(1),
            Self::Invalid => ExitCode::from(3),
            Self::Closed => ExitCode::SUCCESS,
        }
    }
}

/// What an error says for people. The seams put what happened and what to do in their message;
/// what lies beneath goes to the log, for whoever asks for it.
pub(crate) fn sentence(error: &dyn Error) -> String {
    let mut cause = error.source();
    while let Some(beneath) = cause {
        tracing::debug!(error = %beneath, "beneath: {error}");
        cause = beneath.source();
    }
    error.to_string().replace('\n', " ")
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::failed(sentence(&error))
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Self {
        Self::failed(sentence(&error))
    }
}

/// What the command line says does not make a message.
impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Self {
        Self::usage(invalid.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beneath_an_error_is_not_told() {
        let error = StoreError::Failed {
            context: "the file\nis damaged".into(),
            source: Some("code 11".into()),
        };
        assert_eq!(sentence(&error), "database failed: the file is damaged");
    }

    #[test]
    fn each_ending_has_its_status() {
        for (failure, status) in [
            (Failure::usage("wrong"), ExitCode::from(2)),
            (Failure::failed("failed"), ExitCode::from(1)),
            (Failure::Told, ExitCode::from(1)),
            (Failure::Invalid, ExitCode::from(3)),
            (Failure::Closed, ExitCode::SUCCESS),
        ] {
            assert_eq!(failure.exit_code(), status);
        }
    }
}
