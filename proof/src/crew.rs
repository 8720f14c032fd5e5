//! The nodes of a campaign by name, to be killed and started again.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::time::Duration;

use crate::ground::Ground;
use crate::{Failure, Job, Node, Process, World};
use posthaste_sqlite::Sqlite;
use serde::Deserialize;

use crate::rig::{PATIENCE, SOON};

/// How long a world may go on without anything being revived.
const ROUND: Duration = Duration::from_millis(400);

/// See the module. Nodes that are dropped with it are killed.
pub struct Crew<'w, D = Sqlite> {
    world: &'w World<D>,
    members: BTreeMap<String, Process>,
    /// Nodes that were killed so far.
    pub kills: u32,
}

/// What the owner of a bus file says of itself beside it.
#[derive(Deserialize)]
struct Card {
    pid: u32,
}

impl<'w, D: Ground> Crew<'w, D> {
    /// Nobody yet.
    pub fn of(world: &'w World<D>) -> Self {
        Self { world, members: BTreeMap::new(), kills: 0 }
    }

    /// Starts a node.
    pub async fn add(
        &mut self,
        name: &str,
        jobs: impl IntoIterator<Item = Job>,
    ) -> Result<(), Failure> {
        self.add_node(self.world.node(name, jobs)).await
    }

    /// Starts a node that was told more than its jobs.
    pub async fn add_node(&mut self, node: Node) -> Result<(), Failure> {
        let name = node.name.clone();
        let process = self.world.start(node).await?;
        self.members.insert(name, process);
        Ok(())
    }

    /// The names of those whose name begins with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.members.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    /// A node.
    pub fn member(&mut self, name: &str) -> Result<&mut Process, Failure> {
        self.members.get_mut(name).ok_or_else(|| format!("there is no {name}").into())
    }

    /// Kills a node without warning.
    pub fn kill(&mut self, name: &str) -> Result<(), Failure> {
        self.member(name)?.kill()?;
        self.kills += 1;
        Ok(())
    }

    /// Starts a node again that has ended.
    pub async fn restart(&mut self, name: &str) -> Result<(), Failure> {
        let mut node = self.member(name)?.node().clone();
        node.seed = node.seed.wrapping_add(1);
        let process = self.world.start(node).await?;
        self.members.insert(name.to_owned(), process);
        Ok(())
    }

    /// The name of the node that owns the bus file now, if it is one of these.
    pub fn bus_owner(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.world.path().join("bus.db.lock")).ok()?;
        let card: Card = serde_json::from_str(&text).ok()?;
        let mut members = self.members.iter();
        members.find(|(_, process)| process.id() == card.pid).map(|(name, _)| name.clone())
    }

    /// Starts those again that have ended, and says how they did.
    pub async fn revive(&mut self) -> Result<Vec<(String, ExitStatus)>, Failure> {
        let mut ended = Vec::new();
        for (name, process) in &mut self.members {
            if let Some(status) = process.ended()? {
                ended.push((name.clone(), status));
            }
        }
        for (name, _) in &ended {
            self.restart(name).await?;
        }
        Ok(ended)
    }

    /// Reviving whoever ends, waits until the world is at rest. Returns how those have ended.
    pub async fn rest_reviving(&mut self) -> Result<Vec<(String, ExitStatus)>, Failure> {
        let mut all = Vec::new();
        let mut quiet = 0;
        loop {
            let at_rest = self.world.rest(ROUND).await?;
            let ended = self.revive().await?;
            if at_rest && ended.is_empty() {
                return Ok(all);
            }
            quiet = if ended.is_empty() && !at_rest { quiet + 1 } else { 0 };
            if ROUND * quiet > PATIENCE {
                return Ok(all);
            }
            all.extend(ended);
        }
    }

    /// Asks a node to end and expects that it ends well.
    pub async fn finish(&mut self, name: &str) -> Result<(), Failure> {
        match self.members.remove(name) {
            Some(process) => process.finish(SOON).await,
            None => Err(format!("there is no {name}").into()),
        }
    }

    /// Asks all of these to end, one after the other, and expects that they end well.
    pub async fn finish_all(&mut self, prefixes: &[&str]) -> Result<(), Failure> {
        for prefix in prefixes {
            for name in self.names(prefix) {
                self.finish(&name).await?;
            }
        }
        assert!(self.members.is_empty(), "forgotten: {:?}", self.names(""));
        Ok(())
    }
}
