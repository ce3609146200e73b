//! DNS follows the switch: what names should say, how they are brought there step by step, and how that is proved.

mod zone;

pub use self::zone::{
    Action, Batch, Change, ChangeId, Data, Member, NameServer, Progress, RecordSet, Zone, ZoneError, ZoneInfo,
};
