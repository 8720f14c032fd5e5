//! A channel in confirm mode and everything that belongs to it: the window, what is unconfirmed,
//! and what is known of exchanges. It ends with its channel; the next one begins with a clean
//! slate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use lapin::types::ShortString;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::confirms::{Answered, Confirms, Parcel};
use crate::connection::Wire;
use crate::error::Failure;
use crate::options::RabbitMqOptions;
use crate::topology;

/// How long it is believed that an exchange is missing, or that a right is.
const BELIEVED: Duration = Duration::from_secs(2);
/// How long it is believed that an exchange is there that we may not declare.
const FOUND: Duration = Duration::from_secs(30);
/// Bytes that one permit of the window stands for.
const UNIT: usize = 1024;

/// A channel to publish on.
pub(crate) struct Outlet {
    pub(crate) wire: Arc<Wire>,
    channel: Channel,
    confirms: Arc<Confirms>,
    collecting: JoinHandle<()>,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    all_bytes: u32,
    exchanges: Mutex<HashMap<ShortString, Known>>,
}

/// What is known of an exchange, and until when.
struct Known {
    until: Option<Instant>,
    standing: Result<(), Failure>,
}

impl Outlet {
    /// Opens a channel in confirm mode.
    pub(crate) async fn open(wire: Arc<Wire>, options: &RabbitMqOptions) -> Result<Self, Failure> {
        let channel = wire.channel().await?;
        let selecting = channel.confirm_select(ConfirmSelectOptions::default());
        wire.ask("switch to publisher confirms", selecting).await?;
        let confirms = Arc::new(Confirms::default());
        let collected = Arc::clone(&confirms);
        let collecting = tokio::spawn(async move {
            loop {
                collected.changed().await;
                collected.sweep();
            }
        });
        let units = options.window_bytes.div_ceil(UNIT).max(1);
        let all_bytes = u32::try_from(units).unwrap_or(u32::MAX);
        Ok(Self {
            wire,
            channel,
            confirms,
            collecting,
            messages: Arc::new(Semaphore::new(options.window)),
            bytes: Arc::new(Semaphore::new(units)),
            all_bytes,
            exchanges: Mutex::default(),
        })
    }

    /// Whether it can be used, as far as this side knows.
    pub(crate) fn is_up(&self) -> bool {
        self.wire.is_up() && self.channel.status().connected() && !self.messages.is_closed()
    }

    /// Waits for room in the window for so many bytes.
    pub(crate) async fn room(&self, bytes: usize) -> Option<Vec<OwnedSemaphorePermit>> {
        let message = Arc::clone(&self.messages).acquire_owned().await.ok()?;
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let units = units.clamp(1, self.all_bytes);
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(units).await.ok()?;
        Some(vec![message, bytes])
    }

    /// Sends a message for which there is room.
    pub(crate) fn send(
        &self,
        parcel: Parcel,
        place: usize,
        answers: mpsc::UnboundedSender<Answered>,
        room: Vec<OwnedSemaphorePermit>,
    ) {
        self.confirms.send(&self.channel, parcel, place, answers, room);
    }

    /// Nothing more goes through it; what waits for room goes elsewhere.
    pub(crate) fn retire(&self) {
        self.messages.close();
        self.bytes.close();
    }

    /// Makes sure that an exchange is there, or says why it is not. Asks the broker only where that
    /// is not known; an outlet ends when an exchange that it knows is taken away, because the
    /// broker closes the channel then.
    pub(crate) async fn exchange(&self, name: &ShortString, declare: bool) -> Result<(), Failure> {
        let mut exchanges = self.exchanges.lock().await;
        if let Some(known) = exchanges.get(name)
            && known.until.is_none_or(|until| Instant::now() < until)
        {
            return known.standing.clone();
        }
        let looked = topology::exchange(&self.wire, name, declare).await;
        if let Ok(Some(note)) = &looked {
            tracing::warn!("{note}");
        }
        let standing = looked.map(|_| ());
        let lasting = match &standing {
            Ok(()) if declare => None,
            Ok(()) => Some(FOUND),
            // Whether the broker is there is not a property of an exchange.
            Err(Failure::Unavailable(_)) => return standing,
            Err(_) => Some(BELIEVED),
        };
        let until = lasting.map(|lasting| Instant::now() + lasting);
        exchanges.insert(name.clone(), Known { until, standing: standing.clone() });
        standing
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.collecting.abort();
    }
}
