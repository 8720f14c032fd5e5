//! Broken rules: wrappers that do what no backend and no engine may do.
//!
//! They prove that the checks catch something: `posthaste demo --sabotage NAME` must end with a
//! broken promise, and a conformance law must fail on a backend that is wrapped in the one that
//! breaks it. Each names the rule it breaks and who must notice.

mod ack_before_commit;
mod commit_before_inbox;
mod cursor_that_skips;
mod forget_lanes_before;
mod forget_settlement_number;
mod ignore_division;
mod ignore_fence;
mod ignore_order;
mod invent_message;
mod new_identity;
mod retry_unroutable;
mod settle_before_confirm;
mod share_lanes;

pub use ack_before_commit::AckBeforeCommit;
pub use commit_before_inbox::CommitBeforeInbox;
pub use cursor_that_skips::CursorThatSkips;
pub use forget_lanes_before::ForgetLanesBefore;
pub use forget_settlement_number::ForgetSettlementNumber;
pub use ignore_division::IgnoreDivision;
pub use ignore_fence::IgnoreFence;
pub use ignore_order::IgnoreOrder;
pub use invent_message::InventMessage;
pub use new_identity::NewIdentity;
pub use retry_unroutable::RetryUnroutable;
pub use settle_before_confirm::SettleBeforeConfirm;
pub use share_lanes::ShareLanes;
