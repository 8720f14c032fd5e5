//! `posthaste subscribe`: a durable subscriber that prints what arrives.
//!
//! A message is settled only after its line has left this process, so whoever reads the lines gets
//! each message at least once, whenever this process or the reader is killed.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use posthaste_core::limits::check_name;
use posthaste_core::{BrokerError, Delivery, Subscriber, Subscription};
use tokio::time::timeout;

use crate::context::Context;
use crate::escape::printable;
use crate::failure::{Failure, sentence};
use crate::output::Output;
use crate::patience::Patience;
use crate::registry::OpenBroker;
use crate::settings::Configuration;
use crate::settings::validation::Needs;
use crate::shape;
use crate::stop::Stop;

/// Most messages that are printed and then settled together.
const BATCH: usize = 256;

/// How long the broker may take to settle what was printed once somebody has asked to stop.
const LAST_SETTLING: Duration = Duration::from_secs(2);

/// Print the messages of a topic as they arrive
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The subscription is durable: started again under the same name it goes on \
    where it was, and several processes under one name share the messages.\n\nExamples:\n  \
    posthaste subscribe orders\n  \
    posthaste subscribe orders --json | jq -r .payload\n  \
    posthaste subscribe orders --as billing --count 1"
)]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    /// The name of the subscription
    #[arg(long = "as", value_name = "NAME", default_value = "default")]
    name: String,
    /// Stop after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

pub(crate) async fn run(arguments: Arguments, context: &Context) -> Result<(), Failure> {
    check_name("topic", &arguments.topic)?;
    check_name("name", &arguments.name)?;
    let needs = Needs { database: false, broker: true };
    let configuration = context.configuration(needs, "warn")?;
    let mut stop = Stop::listen()?;
    let left = arguments.count.unwrap_or(u64::MAX);
    let mut subscription = Subscription::new(arguments.topic, arguments.name);
    subscription.prefetch = BATCH.min(usize::try_from(left).unwrap_or(usize::MAX));
    let mut waiting = Waiting { output: context.output, patience: Patience::default() };
    let Some(broker) = connect(&configuration, context, &mut waiting, &mut stop).await? else {
        return Ok(());
    };
    let received = receive(&broker, &subscription, left, &mut waiting, &mut stop).await;
    broker.close().await;
    received
}

/// Prints `left` messages, or until it is asked to stop.
async fn receive(
    broker: &OpenBroker,
    subscription: &Subscription,
    mut left: u64,
    waiting: &mut Waiting,
    stop: &mut Stop,
) -> Result<(), Failure> {
    let Some(mut subscriber) = subscribe(broker, subscription, waiting, stop).await? else {
        return Ok(());
    };
    while left > 0 {
        let most = BATCH.min(usize::try_from(left).unwrap_or(usize::MAX));
        let received = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            received = subscriber.receive(most) => received,
        };
        let Some(deliveries) = waiting.over(received, stop).await? else { return Ok(()) };
        let printed = u64::try_from(deliveries.len()).unwrap_or(u64::MAX);
        if !print_and_settle(deliveries, waiting.output, stop).await? {
            return Ok(());
        }
        left = left.saturating_sub(printed);
    }
    Ok(())
}

/// `None` if it was asked to stop while it waited.
async fn connect(
    configuration: &Configuration,
    context: &Context,
    waiting: &mut Waiting,
    stop: &mut Stop,
) -> Result<Option<OpenBroker>, Failure> {
    loop {
        let opened = tokio::select! {
            biased;
            () = stop.requested() => return Ok(None),
            opened = configuration.try_open_broker(&context.registry) => opened?,
        };
        match opened {
            Ok(broker) => return Ok(Some(broker)),
            Err(error) => {
                if !waiting.wait(error, stop).await? {
                    return Ok(None);
                }
            }
        }
    }
}

/// `None` if it was asked to stop while it waited.
async fn subscribe(
    open: &OpenBroker,
    subscription: &Subscription,
    waiting: &mut Waiting,
    stop: &mut Stop,
) -> Result<Option<Box<dyn Subscriber>>, Failure> {
    loop {
        let opened = tokio::select! {
            biased;
            () = stop.requested() => return Ok(None),
            opened = open.broker.subscriber(subscription) => opened,
        };
        match opened {
            Ok(subscriber) => return Ok(Some(subscriber)),
            Err(error) => {
                if !waiting.wait(error, stop).await? {
                    return Ok(None);
                }
            }
        }
    }
}

/// Waits for a broker that is away, and says so.
struct Waiting {
    output: Output,
    patience: Patience,
}

impl Waiting {
    /// What was received, nothing while the broker is away, or `None` if it was asked to stop.
    async fn over(
        &mut self,
        received: Result<Vec<Delivery>, BrokerError>,
        stop: &mut Stop,
    ) -> Result<Option<Vec<Delivery>>, Failure> {
        match received {
            Ok(deliveries) => {
                if self.patience.is_over() {
                    self.output.say("the broker is back");
                }
                Ok(Some(deliveries))
            }
            Err(error) => Ok(self.wait(error, stop).await?.then(Vec::new)),
        }
    }

    /// Waits a moment; `false` if it was asked to stop.
    async fn wait(&mut self, error: BrokerError, stop: &mut Stop) -> Result<bool, Failure> {
        if !error.is_transient() {
            return Err(error.into());
        }
        let reason = sentence(&error);
        if self.patience.is_news(Instant::now(), &reason) {
            self.output.warn(&format!("{reason}; waiting for it"));
        }
        tokio::select! {
            biased;
            () = stop.requested() => Ok(false),
            () = tokio::time::sleep(self.patience.wait()) => Ok(true),
        }
    }
}

/// Writes the lines, and when they have left, settles the deliveries; `false` if it was asked to
/// stop meanwhile. While nobody has taken the lines nothing is settled.
async fn print_and_settle(
    deliveries: Vec<Delivery>,
    output: Output,
    stop: &mut Stop,
) -> Result<bool, Failure> {
    let mut lines = String::new();
    for delivery in &deliveries {
        if output.is_json() {
            lines.push_str(&shape::delivery(delivery).to_string());
        } else {
            lines.push_str(&line(delivery));
        }
        lines.push('\n');
    }
    // A pipe that nobody empties blocks, and must not keep the signal from being heard.
    let written = tokio::task::spawn_blocking(move || output.bytes(lines.as_bytes()));
    tokio::select! {
        biased;
        written = written => match written {
            Ok(written) => written?,
            Err(error) => return Err(Failure::failed(format!("writing failed: {error}"))),
        },
        () = stop.requested() => return Ok(false),
    }
    Ok(settle(deliveries, output, stop).await)
}

/// Tells the broker what was printed; `false` if it was asked to stop meanwhile. A broker that says
/// nothing does not keep the process from ending: what it has not settled it delivers again.
async fn settle(deliveries: Vec<Delivery>, output: Output, stop: &mut Stop) -> bool {
    let count = deliveries.len();
    let mut settling = pin!(join_all(deliveries.into_iter().map(Delivery::complete)));
    let (settled, goes_on) = tokio::select! {
        biased;
        settled = &mut settling => (settled, true),
        () = stop.requested() => match timeout(LAST_SETTLING, settling).await {
            Ok(settled) => (settled, false),
            Err(_) => {
                output.warn(&format!(
                    "the broker did not confirm that {count} printed messages were taken; \
                     they may be printed again"
                ));
                return false;
            }
        },
    };
    for error in settled.into_iter().filter_map(Result::err) {
        output.warn(&format!("{}; it may be printed again", sentence(&error)));
    }
    goes_on
}

fn line(delivery: &Delivery) -> String {
    let message = &delivery.message;
    let key = message.key.as_deref().map(printable);
    let again = if delivery.is_redelivered() { " (again)" } else { "" };
    format!(
        "{}  {}  {}  {}{again}",
        message.id,
        message.kind,
        key.as_deref().unwrap_or("-"),
        printable(&shape::readable(&message.payload))
    )
}
