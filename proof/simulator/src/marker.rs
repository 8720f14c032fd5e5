//! Places that some seed has to come to. A simulator that never fails may never have been where
//! things fail: each of these is marked when it happens, and all of them must have.

macro_rules! markers {
    ($($(#[doc = $doc:literal])* $kind:ident,)*) => {
        /// Something that happens in some worlds.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Marker {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Marker {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// What happens, in a few words.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$kind => concat!($($doc,)*).trim_ascii(),)* }
            }
        }
    };
}

markers! {
    /// A row was read whose number the reader had passed.
    LateRow,
    /// Late rows did not fit into one reading.
    LateRowsCut,
    /// A gap in the numbers was left by a rollback and read past.
    GapReadPast,
    /// A savepoint took messages back.
    SavepointRolledBack,
    /// A commit was not answered, and had happened.
    CommitUnknownAndThere,
    /// A commit was not answered, and had not happened.
    CommitUnknownAndGone,
    /// A relay crashed with messages in flight.
    CrashInFlight,
    /// A relay was paused beyond its lease, and another one led by then.
    PausedBeyondLease,
    /// A settlement came from an old lease and changed nothing.
    Fenced,
    /// A publish call of an old lease reached the broker after one of the next lease.
    LateCallOfOldLease,
    /// A settlement was repeated and recognised.
    SettlementRepeated,
    /// A standby took over that had not received everything.
    FailoverForgot,
    /// A standby took over that lacked a settlement.
    FailoverForgotSettlement,
    /// A relay with messages in flight found the server in another life.
    FailoverInFlight,
    /// The database's calendar was set back or forward.
    CalendarJumped,
    /// A destination was divided anew.
    Divided,
    /// A division had to wait for the last one.
    DivisionRefused,
    /// A lane inherited from others that had come differently far.
    Inherited,
    /// The confirm of an accepted message was lost.
    ConfirmLost,
    /// A message reached the broker long after it was given up as unknown.
    ArrivedLate,
    /// The broker could not be reached.
    BrokerAway,
    /// A broker that fences shut a call of an old lease out.
    ShutOut,
    /// A broker dropped a copy by its own window.
    DroppedByWindow,
    /// Messages of a key followed each other in one call.
    FollowedInOneCall,
    /// A key was parked behind a dead letter.
    KeyParked,
    /// A key went on without a dead letter.
    KeyWentOn,
    /// A dead letter of the relay was reposted.
    Reposted,
    /// A dead letter of the relay was discarded.
    Discarded,
    /// A message was set aside because nobody was bound to it.
    SetAside,
    /// A route was open again and was worked off in portions.
    RouteReopened,
    /// A message that breaks the connection was found and given up.
    PoisonFound,
    /// A message waited for its time.
    WaitedForItsTime,
    /// A relay was asked to stop with messages in flight.
    StoppedInFlight,
    /// A relay that stopped gave its lease back.
    LeaseReleased,
    /// A copy arrived at a consumer and had no effect.
    CopyAbsorbed,
    /// A copy arrived that the inbox was just about to forget.
    WindowEdge,
    /// A run of several failed and each of them ran alone.
    RanAlone,
    /// A consumer gave up on a message that its handler refused or failed.
    Buried,
    /// A consumer gave up on a message that had ended its process again and again.
    BuriedForCrashes,
    /// The lock on a delivery ran out while it was handled.
    LockLost,
    /// Two consumers held the same message and one waited for the other's transaction.
    RacedForOneMessage,
    /// Whether a consumer's commit had happened was not known.
    ConsumerCommitUnknown,
}

/// Which of them happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Markers(u64);

impl Markers {
    /// Notes that it happened.
    pub fn mark(&mut self, marker: Marker) {
        self.0 |= 1 << marker as u64;
    }

    /// Those of both.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it happened.
    pub fn has(self, marker: Marker) -> bool {
        self.0 & 1 << marker as u64 != 0
    }

    /// Those that did not happen.
    pub fn missing(self) -> Vec<Marker> {
        Marker::ALL.iter().copied().filter(|marker| !self.has(*marker)).collect()
    }
}

/// Marks a place if a condition holds, and says whether it does.
macro_rules! sometimes {
    ($world:expr, $marker:ident) => {
        $world.markers.mark($crate::marker::Marker::$marker)
    };
    ($world:expr, $marker:ident, if $condition:expr) => {
        if $condition {
            $world.markers.mark($crate::marker::Marker::$marker);
        }
    };
}
pub(crate) use sometimes;
