//! The cutover: moves a service from one color to the other. Desk, pure machine, journal, and the driver that joins them.

mod desk;
mod driver;
mod figures;
mod journal;
mod machine;

pub use self::desk::{Denied, Desk, Granted, Plan, Until, Wish};
pub use self::driver::{Driver, Told};
pub use self::figures::Figures;
pub use self::journal::{Journal, JournalError};
pub use self::machine::{Cutover, Drained, Evidence, Kind, Phase, Switched};
