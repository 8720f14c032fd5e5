//! Whether the broker has heard what was written on a channel.
//!
//! An acknowledgement has no answer in AMQP 0-9-1. What is written after it has one, and a channel
//! is read in order: an answered question shows that the acknowledgement before it arrived. Those
//! who wait at the same time share one question.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::ChannelFlowOptions;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::error::{self, Failure};

type Waiting = oneshot::Sender<Result<(), Failure>>;

#[derive(Default)]
struct Questions {
    is_asking: bool,
    waiting: Vec<Waiting>,
}

/// Asks on one channel.
pub(crate) struct Echo {
    channel: Channel,
    patience: Duration,
    questions: Arc<Mutex<Questions>>,
}

impl Echo {
    pub(crate) fn new(channel: Channel, patience: Duration) -> Self {
        Self { channel, patience, questions: Arc::default() }
    }

    /// Returns once the broker has read everything that was written before this call.
    pub(crate) async fn heard(&self) -> Result<(), Failure> {
        let (sender, answer) = oneshot::channel();
        let begins = {
            let mut questions = locked(&self.questions);
            questions.waiting.push(sender);
            !std::mem::replace(&mut questions.is_asking, true)
        };
        if begins {
            let (channel, patience) = (self.channel.clone(), self.patience);
            tokio::spawn(ask(channel, patience, Arc::clone(&self.questions)));
        }
        let gone = Failure::Unavailable("this program is about to end".to_owned());
        answer.await.unwrap_or(Err(gone))
    }
}

async fn ask(channel: Channel, patience: Duration, questions: Arc<Mutex<Questions>>) {
    loop {
        let waiting = {
            let mut questions = locked(&questions);
            if questions.waiting.is_empty() {
                questions.is_asking = false;
                return;
            }
            std::mem::take(&mut questions.waiting)
        };
        let options = ChannelFlowOptions { active: true };
        let heard = match timeout(patience, channel.channel_flow(options)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error::in_request("settle a delivery", &error)),
            Err(_) => Err(Failure::Unavailable(format!(
                "the broker did not answer within {patience:?} when a delivery was settled"
            ))),
        };
        for one in waiting {
            // Whoever does not wait any more does not want to know.
            drop(one.send(heard.clone()));
        }
    }
}

fn locked(questions: &Mutex<Questions>) -> MutexGuard<'_, Questions> {
    questions.lock().unwrap_or_else(PoisonError::into_inner)
}
