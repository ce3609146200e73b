//! DNS follows the switch: what names should say, how they are brought there step by step, and how that is proved.

mod ask;
mod desk;
mod figures;
mod follower;
mod hands;
mod machine;
mod mark;
#[cfg(test)]
mod memory;
mod plan;
#[cfg(test)]
mod scene;
mod shift;
mod status;
#[cfg(test)]
mod stories;
mod verify;
#[cfg(test)]
mod walk;
mod zone;

pub use self::desk::{Denied, Desk, Preview, Wish, Written};
pub use self::figures::Figures;
pub use self::follower::{Follower, Live};
pub use self::plan::{Objection, Why};
pub use self::shift::{Goal, Shift, Step};
pub use self::status::{Next, RecordStatus, State, Status};
pub use self::verify::{Heard, Proof, prove};
pub use self::zone::{
    Action, Batch, Change, ChangeId, Data, Member, NameServer, Progress, RecordSet, Zone, ZoneError, ZoneInfo,
};
