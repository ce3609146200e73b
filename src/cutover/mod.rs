//! The cutover: moves a service from one color to the other. Desk, pure machine, and the driver that joins them.

mod desk;
mod driver;
mod figures;
mod hands;
mod machine;
mod pause;
mod preview;

pub use self::desk::{Denied, Desk, Granted, Plan, Until, Wish};
pub use self::driver::{Driver, Told};
pub use self::figures::Figures;
pub use self::machine::{Cutover, Drained, Evidence, Kind, Phase, Switched};
pub use self::pause::{Matter, Paused};
