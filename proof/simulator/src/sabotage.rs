//! Deliberate mistakes. Each is made in a model, or between a machine and the world, never in what
//! ships; each has to be noticed, or the simulator proves nothing.

use std::fmt;
use std::str::FromStr;

macro_rules! sabotages {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal within $budget:literal,)*) => {
        /// A deliberate mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Sabotage {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Sabotage {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// What it is called on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What is done wrong, in a sentence.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc,)*).trim_ascii(),)* }
            }

            /// The number of seeds within which it has to be noticed.
            pub const fn budget(self) -> u64 {
                match self { $(Self::$kind => $budget,)* }
            }
        }
    };
}

sabotages! {
    /// The reader remembers the last number and nothing else.
    CursorByNumber = "cursor-by-number" within 50,
    /// A reading takes one snapshot for the late rows and keeps another one.
    TwoSnapshots = "two-snapshots" within 400,
    /// New rows are sent before the late ones of the same reading.
    NewBeforeLate = "new-before-late" within 400,
    /// Late rows have a limit of their own, and the snapshot moves on.
    LateLimitOfItsOwn = "late-limit-of-its-own" within 400,
    /// A cursor in memory is used after a standby without the last commits took over.
    CursorSurvivesFailover = "cursor-survives-failover" within 6000,
    /// New lanes begin where the first of the old ones was.
    NothingInherited = "nothing-inherited" within 400,
    /// A relay settles what it has handed over before the broker has answered.
    SettledBeforeConfirm = "settled-before-confirm" within 100,
    /// The checkpoint of a settlement is the last one that was read.
    CheckpointPastUnsettled = "checkpoint-past-unsettled" within 200,
    /// The database does not look at the token of a settlement.
    FenceIgnored = "fence-ignored" within 400,
    /// The database looks at the token of a settlement, and not whose it was.
    OwnerIgnored = "owner-ignored" within 2000,
    /// The database does not look at the number of a settlement.
    NumberIgnored = "number-ignored" within 400,
    /// A lease that its owner claims again keeps its token, and the numbers of its settlements.
    OwnLeaseKept = "own-lease-kept" within 4000,
    /// Leases are judged by the clock of whoever claims them.
    LeaseByHostClock = "lease-by-host-clock" within 400,
    /// The relay does not see keys.
    KeysIgnored = "keys-ignored" within 100,
    /// Failed attempts are not counted.
    AttemptsForgotten = "attempts-forgotten" within 200,
    /// A message that is sent again has a new identity.
    NewIdentity = "new-identity" within 100,
    /// What nobody is bound to counts as sent.
    UnroutableDropped = "unroutable-dropped" within 200,
    /// A line whose head is gone stays without one.
    LineWithoutHead = "line-without-head" within 100,
    /// A savepoint that is rolled back takes no messages with it.
    SavepointsIgnored = "savepoints-ignored" within 100,
    /// The consumer tells the broker that it is done before it has committed.
    AckBeforeCommit = "ack-before-commit" within 100,
    /// The effect is committed before the inbox entry.
    CommitBeforeInbox = "commit-before-inbox" within 400,
    /// The inbox forgets one message more than it may.
    WindowOffByOne = "window-off-by-one" within 800,
    /// A consumer counts an attempt when it has failed, not when it is made.
    AttemptCountedLate = "attempt-counted-late" within 200,
    /// A consumer tells the broker that it is done with a message before it is a dead letter.
    AckBeforeBurial = "ack-before-burial" within 800,
}

impl fmt::Display for Sabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no mistake of this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchSabotage(String);

impl fmt::Display for NoSuchSabotage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no sabotage `{}`; there are:", self.0)?;
        Sabotage::ALL.iter().try_for_each(|one| write!(f, " {one}"))
    }
}

impl FromStr for Sabotage {
    type Err = NoSuchSabotage;

    fn from_str(name: &str) -> Result<Self, NoSuchSabotage> {
        let found = Self::ALL.iter().find(|one| one.name() == name);
        found.copied().ok_or_else(|| NoSuchSabotage(name.to_owned()))
    }
}
