//! A broker that loses settlements, so that what is done is delivered again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use posthaste_core::broker::{Broker, Subscriber};
use posthaste_core::delivery::{Disposition, Settle};
use posthaste_core::{BrokerError, Delivery, MessageId};

use super::RewiredBroker;
use super::rewired::{rewrap, settle};

type Losses = Arc<Mutex<BTreeMap<MessageId, u32>>>;

/// Makes brokers that say that a delivery is completed and deliver it again. Breaks no rule of an
/// at-least-once broker: the inbox must absorb every copy.
pub struct DuplicatingBroker;

impl DuplicatingBroker {
    /// Every message is delivered `copies` times more than needed to each subscriber's handle.
    #[expect(clippy::new_ret_no_self, reason = "a duplicating broker is a rewired one")]
    pub fn new(inner: Arc<dyn Broker>, copies: u32) -> RewiredBroker {
        RewiredBroker::new(inner).receiving(move |inner| {
            Box::new(Duplicating { inner, copies, losses: Losses::default() })
        })
    }
}

struct Duplicating {
    inner: Box<dyn Subscriber>,
    copies: u32,
    losses: Losses,
}

#[async_trait]
impl Subscriber for Duplicating {
    async fn receive(&mut self, max: usize) -> Result<Vec<Delivery>, BrokerError> {
        let deliveries = self.inner.receive(max).await?;
        let wrap = |inner| -> Box<dyn Settle> {
            Box::new(LosingSettle { inner, copies: self.copies, losses: self.losses.clone() })
        };
        Ok(deliveries.into_iter().map(|delivery| rewrap(delivery, wrap)).collect())
    }
}

struct LosingSettle {
    inner: Delivery,
    copies: u32,
    losses: Losses,
}

#[async_trait]
impl Settle for LosingSettle {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), BrokerError> {
        if disposition == Disposition::Complete && self.loses() {
            drop(self.inner);
            return Ok(());
        }
        settle(self.inner, disposition).await
    }

    async fn renew(&self) -> Result<Option<Duration>, BrokerError> {
        self.inner.renew().await
    }
}

impl LosingSettle {
    fn loses(&self) -> bool {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = losses.entry(self.inner.message.id).or_insert(0);
        let again = *lost < self.copies;
        *lost += u32::from(again);
        again
    }
}
