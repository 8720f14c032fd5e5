//! Where the logs of the engine and the backends go: to standard error, as text or JSON, without
//! secrets.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::output::Output;
use crate::redact;
use crate::registry::REPEATED;
use crate::settings::LogFormat;
use crate::settings::configuration::LogConfiguration;

/// Starts logging. `level` is used if none was set.
pub(crate) fn start(log: &LogConfiguration, level: &str, output: Output) {
    let level = log.level.clone().unwrap_or_else(|| format!("{level},{REPEATED}"));
    let filter = EnvFilter::builder().parse_lossy(level);
    let json = if output.is_json() { LogFormat::Json } else { LogFormat::Text };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Scrubbed);
    // A second start in one process keeps the first subscriber, which is what tests want.
    let started = match log.format.unwrap_or(json) {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_target(false).with_ansi(output.has_colour()).try_init(),
    };
    if let Err(error) = started {
        tracing::debug!(%error, "logging was started before");
    }
}

/// Makes writers to standard error that let no secret through.
struct Scrubbed;

impl<'a> MakeWriter<'a> for Scrubbed {
    type Writer = ScrubbedWriter;

    fn make_writer(&'a self) -> ScrubbedWriter {
        ScrubbedWriter
    }
}

/// Gets each event in one piece, because the formatter writes it whole.
struct ScrubbedWriter;

impl Write for ScrubbedWriter {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().lock().write_all(redact::text(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
