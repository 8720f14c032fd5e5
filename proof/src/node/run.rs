//! The life of a node, from its command line to its end.

use std::future::Future;
use std::io::{Read, Write};
use std::sync::Arc;

use posthaste::core::Broker;
use posthaste_postgres::Postgres;
use posthaste_sqlite::Sqlite;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Job, Node, consume, relay, write};
use crate::Failure;
use crate::carrier::Carrier;
use crate::evidence::Evidence;
use crate::ground::Ground;

/// The exit status of a node whose starter is gone.
const ORPHANED: i32 = 3;

/// What all jobs of a node share.
#[derive(Clone, Debug)]
pub(super) struct Site<D> {
    pub(super) node: Node,
    pub(super) database: D,
    pub(super) evidence: Evidence,
    stop: watch::Receiver<bool>,
}

impl<D: Ground> Site<D> {
    /// Ends when the node is to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<D> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that nobody can say stop any more, which is the same.
            drop(stop.wait_for(|stop| *stop).await);
        }
    }

    /// The broker as this node sees it, with whatever is done to it.
    pub(super) fn broker(&self, carrier: &Carrier) -> Arc<dyn Broker> {
        let mut broker = carrier.broker();
        if let Some(sabotage) = self.node.sabotage {
            broker = sabotage.broker(broker, self.node.seed);
        }
        match self.node.death {
            Some(death) => death.broker(broker),
            None => broker,
        }
    }

    /// Whether the node is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// Does what the node is told to.
///
/// # Errors
/// If a job fails for good.
pub async fn run(node: Node) -> Result<(), Failure> {
    if node.database.starts_with("postgres") {
        run_on::<Postgres>(node).await
    } else {
        run_on::<Sqlite>(node).await
    }
}

async fn run_on<D: Ground>(node: Node) -> Result<(), Failure> {
    end_with_starter();
    let mut terminate = signal(SignalKind::terminate())?;
    let (say_stop, stop) = watch::channel(false);
    let database = D::at(&node.database)?;
    let evidence = Evidence::open(&node.folder)?;
    let needs_broker = node.jobs.iter().any(|job| !matches!(job, Job::Write(_)));
    let open = || Carrier::at(&node.broker, node.bus, node.rabbit);
    let carrier = needs_broker.then(open).transpose()?;
    let site = Site { node, database, evidence, stop };
    let mut jobs = JoinSet::new();
    for (number, job) in (0..).zip(site.node.jobs.clone()) {
        let mut site = site.clone();
        site.node.seed = site.node.seed.wrapping_add(number);
        jobs.spawn(carry_out(number, job, site, carrier.clone()));
    }
    say_ready()?;
    let mut outcome = Ok(());
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                say_stop.send_replace(true);
            }
            ended = jobs.join_next() => match ended {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(failure))) => {
                    say_stop.send_replace(true);
                    outcome = Err(failure);
                }
                Some(Err(panic)) => return Err(panic.into()),
                None => break,
            }
        }
    }
    if let Some(carrier) = carrier {
        carrier.close().await;
    }
    outcome
}

async fn carry_out<D: Ground>(
    number: u64,
    job: Job,
    site: Site<D>,
    carrier: Option<Carrier>,
) -> Result<(), Failure> {
    let carrier = || carrier.ok_or("this job needs a broker");
    match job {
        Job::Own => {
            let _open = carrier()?;
            site.stopped().await;
            Ok(())
        }
        Job::Write(writing) => write::write(number, site, writing).await,
        Job::Relay(relaying) => relay::relay(site, carrier()?, relaying).await,
        Job::Till(consuming) => consume::till(site, carrier()?, consuming).await,
        Job::Books(consuming) => consume::books(site, carrier()?, consuming).await,
    }
}

fn say_ready() -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    output.write_all(b"ready\n")?;
    Ok(output.flush()?)
}

/// Ends this process when its standard input is closed.
fn end_with_starter() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while !matches!(std::io::stdin().read(&mut byte), Ok(0) | Err(_)) {}
        std::process::exit(ORPHANED);
    });
}
