//! Publishing: a call is sent as a whole without waiting for each confirmation, and ends within its
//! time whatever the broker does.
//!
//! Everything happens in a task of its own, so that a call that is given up leaves nothing half
//! done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::types::ShortString;
use posthaste_core::limits::PAYLOAD_BYTES_MOST;
use posthaste_core::{Limits, Message, Outcome, Publisher, Unavailable};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::confirms::{Answer, Answered, Parcel};
use crate::envelope::{self, short};
use crate::error::{self, Failure};
use crate::link::Link;
use crate::options::RabbitMqOptions;
use crate::outlet::Outlet;

/// How long it is believed that a right to write is missing.
const REFUSED: Duration = Duration::from_secs(5);
/// How long a limit that the broker named is believed: it may be raised.
const LEARNED: Duration = Duration::from_secs(60);

/// What all publishers of one handle share: one connection, one channel.
pub(crate) struct Publishing {
    pub(crate) link: Arc<Link>,
    pub(crate) options: Arc<RabbitMqOptions>,
    outlet: AsyncMutex<Option<Arc<Outlet>>>,
    refused: Mutex<HashMap<Route, Refused>>,
    limit: Mutex<Option<(Instant, usize)>>,
}

/// An exchange, or one routing key of it.
type Route = (ShortString, Option<ShortString>);

/// Why the broker did not let us write there.
#[derive(Clone)]
struct Refused {
    until: Instant,
    detail: String,
}

impl Publishing {
    pub(crate) fn new(link: Arc<Link>, options: Arc<RabbitMqOptions>) -> Arc<Self> {
        Arc::new(Self {
            link,
            options,
            outlet: AsyncMutex::default(),
            refused: Mutex::default(),
            limit: Mutex::default(),
        })
    }

    /// The channel to publish on; opens it where there is none.
    async fn outlet(&self) -> Result<Arc<Outlet>, Failure> {
        let mut kept = self.outlet.lock().await;
        if let Some(outlet) = kept.as_ref().filter(|outlet| outlet.is_up()) {
            return Ok(Arc::clone(outlet));
        }
        *kept = None;
        let wire = self.link.wire().await?;
        // On a blocked connection nothing is written, so nothing would be answered either.
        ensure_open(wire.blocked())?;
        let outlet = Arc::new(Outlet::open(wire, &self.options).await?);
        *kept = Some(Arc::clone(&outlet));
        Ok(outlet)
    }

    /// Has the next call use another channel: this one owes answers.
    async fn retire(&self, outlet: &Arc<Outlet>) {
        outlet.retire();
        let mut kept = self.outlet.lock().await;
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, outlet)) {
            tracing::warn!("the broker owes answers to what was published; taking another channel");
            *kept = None;
        }
    }

    /// Most bytes of a payload that the broker takes, as far as is known.
    fn limit(&self) -> usize {
        let learned = *self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        match learned {
            Some((until, limit)) if Instant::now() < until => limit.min(self.options.max_payload),
            _ => self.options.max_payload,
        }
    }

    /// Keeps what can be learned from the end of a channel.
    fn learn(&self, error: &lapin::Error) {
        if let Some(limit) = error::size_limit(error) {
            let mut learned = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
            *learned = Some((Instant::now() + LEARNED, limit));
        }
        if let Some(route) = refused_route(error) {
            let words = error::words(error);
            let what = match &route {
                (exchange, None) => format!("exchange '{exchange}'"),
                (exchange, Some(key)) => format!("exchange '{exchange}' with kind '{key}'"),
            };
            let detail =
                format!("not allowed to write to {what} ({words}): give the user the right");
            let refused = Refused { until: Instant::now() + REFUSED, detail };
            self.locked_refused().insert(route, refused);
        }
    }

    fn locked_refused(&self) -> std::sync::MutexGuard<'_, HashMap<Route, Refused>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes one thing as it is, and waits for the answer.
    pub(crate) async fn send_raw(&self, parcel: Parcel) -> Result<Outcome, Failure> {
        let deadline = Instant::now() + self.options.publish_within;
        let late = |_| Failure::Unavailable("the broker did not answer in time".to_owned());
        let outlet = timeout_at(deadline, self.outlet()).await.map_err(late)??;
        ensure_open(outlet.wire.blocked())?;
        let size = parcel.payload.len();
        let room = timeout_at(deadline, outlet.room(size)).await.map_err(late)?;
        let (sender, mut answers) = mpsc::unbounded_channel();
        outlet.send(parcel, 0, sender, room.unwrap_or_default());
        let Ok(Some((_, answer))) = timeout_at(deadline, answers.recv()).await else {
            self.retire(&outlet).await;
            return Ok(Outcome::unknown("the broker did not confirm in time"));
        };
        match answer {
            Answer::NotSent(error) => Err(Failure::Unavailable(error::words(&error))),
            answer => Ok(self.outcome(answer, size)),
        }
    }

    /// What an answer means for a message with a payload of so many bytes.
    fn outcome(&self, answer: Answer, size: usize) -> Outcome {
        match answer {
            Answer::Confirmed => Outcome::accepted(),
            Answer::Nacked => Outcome::refused(
                "the broker could not store it (nack): look at the state of its queues and disks",
            ),
            Answer::Returned(words) => Outcome::Unroutable {
                detail: format!("no queue is bound to its topic and kind ({words})"),
            },
            Answer::NotSent(error) => {
                Outcome::unknown(format!("not sent: {}", error::words(&error)))
            }
            Answer::Lost { error, alone } => {
                self.learn(&error);
                let words = error::words(&error);
                let too_large = error::size_limit(&error).is_some_and(|limit| size > limit);
                let to_blame = alone && matches!(error::code(&error), Some(311 | 406 | 501));
                if too_large || to_blame {
                    return Outcome::refused_for_good(format!("the broker refuses it: {words}"));
                }
                Outcome::unknown(format!("the connection ended before it was confirmed: {words}"))
            }
        }
    }
}

fn refused_route(error: &lapin::Error) -> Option<Route> {
    let (exchange, key) = error::refused_route(error)?;
    let key = key.map(|key| short(&key)).transpose().ok()?;
    Some((short(&exchange).ok()?, key))
}

fn ensure_open(blocked: Option<String>) -> Result<(), Failure> {
    match blocked {
        None => Ok(()),
        Some(reason) => Err(Failure::Unavailable(format!(
            "the broker has blocked publishers ({reason}): free memory or disk space there"
        ))),
    }
}

/// Hands messages to the broker.
pub(crate) struct RabbitPublisher {
    pub(crate) publishing: Arc<Publishing>,
}

#[async_trait]
impl Publisher for RabbitPublisher {
    async fn publish(&self, messages: &[Message]) -> Result<Vec<Outcome>, Unavailable> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let call = Call {
            publishing: Arc::clone(&self.publishing),
            deadline: Instant::now() + self.publishing.options.publish_within,
            outcomes: vec![None; messages.len()],
            messages: messages.to_vec(),
            sent: 0,
            is_written: false,
            unsent: None,
        };
        match tokio::spawn(call.run()).await {
            Ok(outcomes) => outcomes,
            Err(_) => {
                let unknown = Outcome::unknown("this program is about to end");
                Ok(vec![unknown; messages.len()])
            }
        }
    }
}

/// One call of publish.
struct Call {
    publishing: Arc<Publishing>,
    deadline: Instant,
    messages: Vec<Message>,
    outcomes: Vec<Option<Outcome>>,
    /// Messages whose answers are awaited.
    sent: usize,
    /// Whether something left this process.
    is_written: bool,
    /// Why something was not sent.
    unsent: Option<String>,
}

impl Call {
    async fn run(mut self) -> Result<Vec<Outcome>, Unavailable> {
        self.refuse_what_never_fits();
        if self.outcomes.iter().all(Option::is_some) {
            return Ok(self.finish("not sent"));
        }
        let within = self.publishing.options.publish_within;
        let late = || Unavailable::new(format!("the broker was not reached within {within:?}"));
        let opening = timeout_at(self.deadline, self.publishing.outlet()).await;
        let outlet = opening.map_err(|_| late())??;
        ensure_open(outlet.wire.blocked())?;
        let standings = timeout_at(self.deadline, self.standings(&outlet)).await;
        let standings = match standings.unwrap_or_else(|_| Err(late())) {
            Ok(standings) => standings,
            Err(unavailable) if !self.is_written => return Err(unavailable),
            Err(unavailable) => return Ok(self.finish(&unavailable.context)),
        };
        let (sender, answers) = mpsc::unbounded_channel();
        self.send(&outlet, &standings, sender).await;
        let answered = self.collect(answers).await;
        if !answered && outlet.wire.blocked().is_none() {
            self.publishing.retire(&outlet).await;
        }
        let unsaid = match self.unsent.take() {
            Some(why) if !self.is_written => {
                return Err(Unavailable::new(format!("nothing was sent: {why}")));
            }
            Some(why) => format!("not sent, or not confirmed: {why}"),
            None => "the broker did not confirm it in time".to_owned(),
        };
        Ok(self.finish(&unsaid))
    }

    /// Messages that the broker need not be asked about.
    fn refuse_what_never_fits(&mut self) {
        let (limits, most) = (Limits::with_payload(PAYLOAD_BYTES_MOST), self.publishing.limit());
        for (message, outcome) in self.messages.iter().zip(&mut self.outcomes) {
            let name = self.publishing.options.exchange(&message.topic);
            if let Err(invalid) = limits.check(message) {
                *outcome = Some(Outcome::refused_for_good(invalid.to_string()));
            } else if message.payload.len() > most {
                let bytes = message.payload.len();
                *outcome = Some(Outcome::refused_for_good(format!(
                    "payload has {bytes} bytes; the broker takes at most {most} (its \
                     max_message_size, and max_payload here)"
                )));
            } else if let Err(long) = short(&name) {
                *outcome = Some(Outcome::refused_for_good(long));
            }
        }
    }

    /// What is to be known of the exchange of each topic before anything is sent to it.
    async fn standings(&mut self, outlet: &Arc<Outlet>) -> Result<Standings, Unavailable> {
        let mut standings = Standings::new();
        for place in 0..self.messages.len() {
            let topic = &self.messages[place].topic;
            if self.outcomes[place].is_some() {
                continue;
            }
            if let Some(standing) = standings.get(topic) {
                if let Ok(exchange) = standing.clone() {
                    self.may_write_kind(outlet, &exchange, place).await;
                }
                continue;
            }
            let Ok(exchange) = short(&self.publishing.options.exchange(topic)) else { continue };
            let topic = topic.clone();
            let standing = match outlet.exchange(&exchange, self.publishing.options.declare).await {
                Ok(()) => self.may_write(outlet, &(exchange.clone(), None), place).await,
                Err(Failure::Missing(detail)) => Err(Outcome::Unroutable { detail }),
                Err(Failure::Unavailable(why)) => return Err(Unavailable::new(why)),
                Err(failure) => Err(Outcome::refused(failure.to_string())),
            };
            if standing.is_ok() {
                self.may_write_kind(outlet, &exchange, place).await;
            }
            standings.insert(topic, standing.map(|()| exchange));
        }
        Ok(standings)
    }

    /// Whether a message may go to an exchange that takes others; if not, that is its outcome.
    async fn may_write_kind(&mut self, outlet: &Arc<Outlet>, exchange: &ShortString, place: usize) {
        if self.outcomes[place].is_some() || self.publishing.locked_refused().is_empty() {
            return;
        }
        let Ok(kind) = short(&self.messages[place].kind) else { return };
        let route = (exchange.clone(), Some(kind));
        if let Err(outcome) = self.may_write(outlet, &route, place).await {
            self.outcomes[place] = Some(outcome);
        }
    }

    /// What refused us is tried with one message on a channel of its own, because the broker closes
    /// the channel on which it refuses.
    async fn may_write(
        &mut self,
        outlet: &Arc<Outlet>,
        route: &Route,
        place: usize,
    ) -> Result<(), Outcome> {
        let refused = self.publishing.locked_refused().get(route).cloned();
        let Some(refused) = refused else { return Ok(()) };
        if Instant::now() < refused.until {
            return Err(Outcome::refused(refused.detail));
        }
        let probe = Outlet::open(Arc::clone(&outlet.wire), &self.publishing.options).await;
        let (Ok(probe), Ok(parcel)) = (probe, self.parcel(place, &route.0)) else {
            return Err(Outcome::refused(refused.detail));
        };
        let (sender, mut answers) = mpsc::unbounded_channel();
        let size = parcel.payload.len();
        self.is_written = true;
        probe.send(parcel, place, sender, Vec::new());
        let patience = outlet.wire.patience();
        let answer = match timeout(patience, answers.recv()).await {
            Ok(Some((_, answer))) => answer,
            _ => return Err(Outcome::unknown("the broker did not confirm it in time")),
        };
        let again = match &answer {
            Answer::Lost { error, .. } => refused_route(error),
            _ => None,
        };
        let outcome = self.publishing.outcome(answer, size);
        let Some(again) = again else {
            self.publishing.locked_refused().remove(route);
            self.outcomes[place] = Some(outcome);
            return Ok(());
        };
        // It was alone on its channel: the broker does not have it.
        let known = self.publishing.locked_refused().get(&again).cloned();
        let outcome = Outcome::refused(known.map_or(refused.detail, |it| it.detail));
        if route.1.is_none() && again.1.is_some() {
            // The exchange is open to us, and this kind is not.
            self.publishing.locked_refused().remove(route);
            self.outcomes[place] = Some(outcome);
            return Ok(());
        }
        Err(outcome)
    }

    fn parcel(&self, place: usize, exchange: &ShortString) -> Result<Parcel, String> {
        let message = &self.messages[place];
        Ok(Parcel {
            exchange: exchange.clone(),
            routing_key: short(&message.kind)?,
            properties: envelope::properties(message)?,
            payload: message.payload.clone(),
        })
    }

    /// Sends everything that may be sent.
    async fn send(
        &mut self,
        outlet: &Outlet,
        standings: &Standings,
        answers: mpsc::UnboundedSender<Answered>,
    ) {
        for place in 0..self.messages.len() {
            if self.outcomes[place].is_some() {
                continue;
            }
            let exchange = match standings.get(&self.messages[place].topic) {
                Some(Ok(exchange)) => exchange,
                Some(Err(outcome)) => {
                    self.outcomes[place] = Some(outcome.clone());
                    continue;
                }
                None => continue,
            };
            let parcel = match self.parcel(place, exchange) {
                Ok(parcel) => parcel,
                Err(why) => {
                    self.outcomes[place] = Some(Outcome::refused_for_good(why));
                    continue;
                }
            };
            let size = self.messages[place].size();
            let Ok(Some(room)) = timeout_at(self.deadline, outlet.room(size)).await else {
                self.unsent = Some("the broker does not keep up".to_owned());
                return;
            };
            if !outlet.is_up() {
                self.unsent = Some("the connection was lost".to_owned());
                return;
            }
            outlet.send(parcel, place, answers.clone(), room);
            self.sent += 1;
        }
    }

    /// Waits for the answers to what was sent. Returns whether all came.
    async fn collect(&mut self, mut answers: mpsc::UnboundedReceiver<Answered>) -> bool {
        while self.sent > 0 {
            let Ok(Some((place, answer))) = timeout_at(self.deadline, answers.recv()).await else {
                self.is_written = true;
                return false;
            };
            self.sent -= 1;
            if let Answer::NotSent(error) = &answer {
                self.unsent = Some(error::words(error));
                continue;
            }
            self.is_written = true;
            let size = self.messages[place].payload.len();
            self.outcomes[place] = Some(self.publishing.outcome(answer, size));
        }
        true
    }

    fn finish(self, unsaid: &str) -> Vec<Outcome> {
        let unknown = || Outcome::unknown(unsaid);
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unknown)).collect()
    }
}

/// For each topic its exchange, or what becomes of its messages.
type Standings = HashMap<String, Result<ShortString, Outcome>>;
