//! The life of a node, from its command line to its end.

use std::future::Future;
use std::io::{Read, Write};
use std::sync::Arc;

use posthaste::core::Broker;
use posthaste_bus::Bus;
use posthaste_sqlite::Sqlite;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Job, Node, consume, relay, write};
use crate::Failure;
use crate::evidence::Evidence;
use crate::world;

/// The exit status of a node whose starter is gone.
const ORPHANED: i32 = 3;

/// What all jobs of a node share.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) node: Node,
    pub(super) database: Sqlite,
    pub(super) evidence: Evidence,
    stop: watch::Receiver<bool>,
}

impl Site {
    /// Ends when the node is to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.clone();
        async move {
            // An error means that nobody can say stop any more, which is the same.
            drop(stop.wait_for(|stop| *stop).await);
        }
    }

    /// The bus as this node sees it, with whatever is done to it.
    pub(super) fn broker(&self, bus: Bus) -> Arc<dyn Broker> {
        let mut broker: Arc<dyn Broker> = Arc::new(bus);
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
    end_with_starter();
    let mut terminate = signal(SignalKind::terminate())?;
    let (say_stop, stop) = watch::channel(false);
    let database = Sqlite::open(&world::database_url(&node.folder), world::options())?;
    let evidence = Evidence::open(&node.folder)?;
    let needs_bus = node.jobs.iter().any(|job| !matches!(job, Job::Write(_)));
    let bus =
        needs_bus.then(|| Bus::open(&world::bus_url(&node.folder), node.bus.into())).transpose()?;
    let site = Site { node, database, evidence, stop };
    let mut jobs = JoinSet::new();
    for job in site.node.jobs.clone() {
        jobs.spawn(carry_out(job, site.clone(), bus.clone()));
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
    if let Some(bus) = bus {
        bus.close().await;
    }
    outcome
}

async fn carry_out(job: Job, site: Site, bus: Option<Bus>) -> Result<(), Failure> {
    let bus = || bus.ok_or("this job needs a bus");
    match job {
        Job::Own => {
            let _open = bus()?;
            site.stopped().await;
            Ok(())
        }
        Job::Write(writing) => write::write(site, writing).await,
        Job::Relay(relaying) => relay::relay(site, bus()?, relaying).await,
        Job::Till(consuming) => consume::till(site, bus()?, consuming).await,
        Job::Books(consuming) => consume::books(site, bus()?, consuming).await,
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
