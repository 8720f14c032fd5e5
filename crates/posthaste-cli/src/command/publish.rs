//! `posthaste publish`: states one message in the outbox and prints its id.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;

use posthaste_core::{Headers, Limits, Message, MessageId, Payload};
use serde_json::json;

use crate::calendar;
use crate::context::Context;
use crate::failure::Failure;
use crate::settings::size::Size;
use crate::settings::validation::Needs;

/// Write a message to the outbox and print its id
#[derive(Debug, clap::Args)]
#[command(after_help = "The message is delivered when a relay runs ('posthaste run').\n\n\
    Examples:\n  \
    posthaste publish orders order.placed '{\"id\": 42}' --key 42\n  \
    posthaste publish orders order.placed @order.json --content-type application/json\n  \
    echo hello | posthaste publish greetings hello - --header lang=en\n  \
    posthaste publish reminders reminder.due 'call back' --due 2h")]
pub(crate) struct Arguments {
    /// Where it goes
    topic: String,
    /// What it is
    kind: String,
    /// The payload: text, @FILE for the content of a file, or - for standard input
    #[arg(value_name = "@FILE|-|TEXT")]
    payload: Option<OsString>,
    /// What it is about; messages of one topic and key stay in order
    #[arg(long)]
    key: Option<String>,
    /// A header; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Not to be delivered before: a duration from now (30s, 2h) or a time (RFC 3339)
    #[arg(long, value_name = "WHEN")]
    due: Option<String>,
    /// The media type of the payload
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    let needs = Needs { database: true, broker: false };
    let configuration = context.configuration(needs, "warn")?;
    let limit = configuration.database.as_ref().map_or(0, |database| database.payload_limit);
    let payload = payload(arguments.payload.as_ref(), limit)?;
    let message = message(arguments, payload)?;
    Limits::with_payload(limit).check(&message)?;
    let database = configuration.open_database(&context.registry, false).await?;
    database.enqueue_alone(std::slice::from_ref(&message)).await?;
    let id = message.id.to_string();
    if context.output.is_json() {
        return context.output.object(&json!({ "id": id }));
    }
    context.output.line(&id)
}

fn message(arguments: Arguments, payload: Payload) -> Result<Message, Failure> {
    let mut random = [0; 10];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::failed(format!("no random numbers to be had: {error}")))?;
    let now = calendar::now();
    let id = MessageId::v7(now, random);
    let mut headers = Headers::new();
    for (name, value) in arguments.headers {
        if headers.insert(name.clone(), value).is_some() {
            return Err(Failure::usage(format!("header '{name}' is given twice")));
        }
    }
    let due = arguments.due.as_deref().map(calendar::due).transpose();
    let due_at = due.map_err(|advice| Failure::usage(format!("--due: {advice}")))?;
    let mut message = Message::new(id, arguments.topic, arguments.kind, payload, now);
    message.key = arguments.key;
    message.headers = headers;
    message.content_type = arguments.content_type;
    message.due_at = due_at;
    Ok(message)
}

/// Text stays text, so that people can read it in the table; what is not UTF-8, or holds a NUL,
/// which not every database takes in text, is stated as bytes.
fn payload(argument: Option<&OsString>, limit: usize) -> Result<Payload, Failure> {
    let bytes = match argument {
        None => Vec::new(),
        Some(argument) => match argument.as_encoded_bytes() {
            b"-" => bounded(std::io::stdin().lock(), "standard input", limit)?,
            [b'@', _, ..] => {
                let path = file_name(argument);
                let shown = path.to_string_lossy().into_owned();
                let file = File::open(&path)
                    .map_err(|error| Failure::failed(format!("cannot read {shown}: {error}")))?;
                bounded(file, &shown, limit)?
            }
            bytes => bytes.to_vec(),
        },
    };
    Ok(match String::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Payload::text(text),
        Ok(text) => Payload::bytes(text.into_bytes()),
        Err(error) => Payload::bytes(error.into_bytes()),
    })
}

/// What follows the `@`, byte for byte: the name of a file need not be UTF-8.
#[cfg(unix)]
fn file_name(argument: &OsString) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    let name = argument.as_bytes().get(1..).unwrap_or_default();
    std::ffi::OsStr::from_bytes(name).to_owned()
}

/// What follows the `@`.
#[cfg(not(unix))]
fn file_name(argument: &OsString) -> OsString {
    argument.to_string_lossy().get(1..).unwrap_or_default().into()
}

/// Reads all of it, but never much more than may be sent, however much there is.
fn bounded(from: impl Read, name: &str, limit: usize) -> Result<Vec<u8>, Failure> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    from.take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::failed(format!("cannot read {name}: {error}")))?;
    if bytes.len() > limit {
        return Err(Failure::usage(format!(
            "{name} holds more than {}, the limit of one payload; raise database.payload_limit \
             (up to 64MiB), or store the data elsewhere and send a reference",
            Size(limit)
        )));
    }
    Ok(bytes)
}
