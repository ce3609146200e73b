//! Discovery: where a color's endpoints are learned, and what of an answer is believed.
//!
//! A source proposes, health checks decide. A scout asks its source and hands in what it believes; it touches no pool and
//! no table itself.

mod desk;
mod figures;
mod judge;
mod kept;
mod lookup;
mod pace;
mod scout;
mod source;
mod status;
mod vet;

pub use self::desk::{Desk, Gone, Heard, Order, Outcome};
pub use self::figures::Figures;
pub use self::judge::{Member, Standing};
pub use self::kept::Kept;
pub use self::lookup::Lookup;
pub use self::scout::{NotNow, Proposal, Reach, Scout};
pub use self::source::{Answer, Found, Source, SourceError};
pub use self::status::{State, Status};
pub use self::vet::{Facts, Refused};
