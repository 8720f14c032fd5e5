//! Which transactions had ended at one moment, as PostgreSQL says it (`pg_snapshot`).

use std::fmt;
use std::str::FromStr;

/// A snapshot: it sees every transaction that had ended when it was taken.
///
/// `xmin <= xmax`, and the ids in progress are ascending, distinct and within `xmin..xmax`. Its
/// text is PostgreSQL's: `xmin:xmax:id,id,…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Snapshot {
    xmin: u64,
    xmax: u64,
    in_progress: Vec<u64>,
}

/// A text or three values that are not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a snapshot: {reason}")]
pub struct BadSnapshot {
    /// The beginning of what was given.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Snapshot {
    /// Sees the transaction id 0 and nothing else. PostgreSQL gives that id to nobody, so there it
    /// sees nothing; where every row has that id, it sees everything.
    pub const BEGINNING: Self = Self { xmin: 1, xmax: 1, in_progress: Vec::new() };

    /// Most transactions in progress; what keeps a checkpoint bounded. No server runs nearly as
    /// many that write.
    pub const MAX_IN_PROGRESS: usize = 65_536;

    /// A snapshot from its parts.
    ///
    /// # Errors
    /// [`BadSnapshot`] if they break the rules above.
    pub fn new(xmin: u64, xmax: u64, in_progress: Vec<u64>) -> Result<Self, BadSnapshot> {
        let reason = if xmin == 0 || xmin > xmax {
            Some("xmin has to be above 0 and not above xmax")
        } else if in_progress.len() > Self::MAX_IN_PROGRESS {
            Some("more than 65536 transactions in progress")
        } else if !in_progress.is_sorted_by(|a, b| a < b) {
            Some("the ids in progress have to be ascending")
        } else if in_progress.iter().any(|id| !(xmin..xmax).contains(id)) {
            Some("the ids in progress have to be from xmin to below xmax")
        } else {
            None
        };
        match reason {
            Some(reason) => Err(BadSnapshot { text: format!("{xmin}:{xmax}:…"), reason }),
            None => Ok(Self { xmin, xmax, in_progress }),
        }
    }

    /// Whether the transaction had ended when this was taken; if it committed, its rows are seen.
    pub fn sees(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && self.in_progress.binary_search(&xid).is_err())
    }

    /// Sees what both of them see. If they have more ids in progress than a snapshot may have, it
    /// sees somewhat less.
    pub(super) fn meet(&self, other: &Self) -> Self {
        let mut xmax = self.xmax.min(other.xmax);
        let mut in_progress: Vec<u64> = self.in_progress.clone();
        in_progress.extend(&other.in_progress);
        in_progress.sort_unstable();
        in_progress.dedup();
        in_progress.truncate(in_progress.partition_point(|id| *id < xmax));
        if let Some(id) = in_progress.get(Self::MAX_IN_PROGRESS) {
            xmax = *id;
            in_progress.truncate(Self::MAX_IN_PROGRESS);
        }
        Self { xmin: self.xmin.min(other.xmin), xmax, in_progress }
    }

    /// Whether this sees whatever `other` sees. It may say no of two that differ in words only:
    /// where `other` lists every id from here to its end.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.xmax >= other.xmax && !self.in_progress.iter().any(|id| other.sees(*id))
    }

    /// Every transaction below it had ended.
    pub const fn xmin(&self) -> u64 {
        self.xmin
    }

    /// No transaction from it on had ended.
    pub const fn xmax(&self) -> u64 {
        self.xmax
    }

    /// Those between that had not ended, ascending.
    pub fn in_progress(&self) -> &[u64] {
        &self.in_progress
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.xmin, self.xmax)?;
        for (index, id) in self.in_progress.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{id}")?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = BadSnapshot;

    fn from_str(text: &str) -> Result<Self, BadSnapshot> {
        let bad = |reason| BadSnapshot { text: text.chars().take(64).collect(), reason };
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(|| {
                bad("expected whole numbers as xmin:xmax:id,id,… as PostgreSQL prints them")
            })
        };
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(list), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad("expected three parts as xmin:xmax:id,id,…"));
        };
        if list.len() > Self::MAX_IN_PROGRESS * 21 {
            return Err(bad("more than 65536 transactions in progress"));
        }
        let mut in_progress = Vec::new();
        if !list.is_empty() {
            for id in list.split(',') {
                in_progress.push(number(id)?);
            }
        }
        Self::new(number(xmin)?, number(xmax)?, in_progress).map_err(|error| bad(error.reason))
    }
}
