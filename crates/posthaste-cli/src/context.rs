//! What every command gets: the backends, the way to speak, and the settings on demand.

use posthaste_core::finding::Severity;

use crate::failure::Failure;
use crate::logging;
use crate::output::Output;
use crate::registry::Registry;
use crate::settings::Configuration;
use crate::settings::layers::{self, Flags, Loaded};
use crate::settings::validation::{self, Needs};

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) registry: Registry,
    pub(crate) output: Output,
    flags: Flags,
}

impl Context {
    pub(crate) fn new(registry: Registry, output: Output, flags: Flags) -> Self {
        Self { registry, output, flags }
    }

    /// The flags of the command line that are settings.
    pub(crate) fn flags(&self) -> &Flags {
        &self.flags
    }

    /// Settings from all layers.
    pub(crate) fn load(&self) -> Loaded {
        self.warn_of_exposed_secrets();
        layers::load(&self.flags, std::env::vars_os())
    }

    /// Warns of a secret that stands on the command line.
    pub(crate) fn warn_of_exposed_secrets(&self) {
        for flag in self.flags.exposed() {
            let instead = match flag {
                "--database" => "POSTHASTE_DATABASE_URL",
                "--broker" => "POSTHASTE_BROKER_URL",
                _ => "an environment variable",
            };
            self.output.warn(&format!(
                "everybody on this machine can read the password in {flag}; \
                 set {instead} or write it in {} instead",
                layers::DEFAULT_FILE
            ));
        }
    }

    /// Checked settings, with logging started; `level` is logged if the settings name none.
    ///
    /// # Errors
    /// [`Failure`] with every mistake.
    pub(crate) fn configuration(
        &self,
        needs: Needs,
        level: &str,
    ) -> Result<Configuration, Failure> {
        let schemes = self.registry.schemes();
        let checked = validation::validate(self.load(), &schemes, needs);
        let configuration = checked.map_err(Failure::settings)?;
        for notice in configuration.notices.iter().filter(|n| n.severity >= Severity::Notice) {
            let advice = notice.advice.as_deref().unwrap_or_default();
            self.output.warn(&format!("{}; {advice}", notice.what));
        }
        logging::start(&configuration.log, level, self.output);
        Ok(configuration)
    }
}
