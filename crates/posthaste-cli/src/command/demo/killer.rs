//! Chooses the moments at which the process is killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::failure::Failure;

use super::dice::Dice;
use super::gate::Gate;
use super::process::Process;
use super::site::Site;

/// How long the killer lies in wait for something to happen before it strikes anyway.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const GLANCE: Duration = Duration::from_micros(500);

/// Strikes at any time, or where it hurts: right after something was written, when one side
/// knows of it and the other does not.
pub(super) struct Killer {
    dice: Dice,
    prey: Vec<PathBuf>,
}

/// When to strike.
enum Moment {
    /// So long after the start, while the process is still finding its feet.
    Early(Duration),
    /// So long after this many messages are committed.
    Late { committed: u64, wait: Duration },
    /// When, after this many are committed, a file has been written this often.
    Writes { committed: u64, file: PathBuf, times: u64 },
}

impl Killer {
    pub(super) fn new(site: &Site, dice: Dice) -> Self {
        Self { dice, prey: site.lively() }
    }

    /// Waits for its moment and kills the process, somewhere on the way `to` this many messages.
    ///
    /// # Errors
    /// If the process has ended by itself.
    pub(super) async fn strike(
        &mut self,
        process: &mut Process,
        gate: &Gate,
        to: u64,
    ) -> Result<(), Failure> {
        match self.choose(gate.committed(), to) {
            Moment::Early(wait) => tokio::time::sleep(wait).await,
            Moment::Late { committed, wait } => {
                until(process, || gate.committed() >= committed).await?;
                tokio::time::sleep(wait).await;
            }
            Moment::Writes { committed, file, times } => {
                until(process, || gate.committed() >= committed).await?;
                let (mut before, mut seen) = (state(&file), 0);
                let written = || {
                    let now = state(&file);
                    seen += u64::from(now != before);
                    before = now;
                    seen >= times
                };
                until(process, written).await?;
            }
        }
        process.kill().await
    }

    fn choose(&mut self, from: u64, to: u64) -> Moment {
        let committed = from + self.dice.below(to.saturating_sub(from));
        let file = self.dice.below(u64::try_from(self.prey.len()).unwrap_or(0));
        let file = usize::try_from(file).ok().and_then(|file| self.prey.get(file)).cloned();
        match (self.dice.below(100), file) {
            (0..15, _) => Moment::Early(self.dice.up_to(Duration::from_millis(150))),
            (30.., Some(file)) => Moment::Writes { committed, file, times: 1 + self.dice.below(3) },
            _ => Moment::Late { committed, wait: self.dice.up_to(Duration::from_millis(300)) },
        }
    }
}

/// Returns when it has come to that, or after a while.
async fn until(process: &mut Process, mut is_so: impl FnMut() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() && Instant::now() < deadline {
        process.look()?;
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// Length and time of the last write, if the file is there.
fn state(file: &Path) -> Option<(u64, SystemTime)> {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}
