//! The cutover: moves a service from one color to the other. Desk, pure machine, and the driver that joins them.

mod ask;
mod desk;
mod driver;
mod evidence;
mod figures;
mod fitness;
mod follow;
mod gate;
mod group;
mod guard;
mod hands;
mod judge;
mod machine;
mod pause;
mod preview;
mod probe;
mod recorder;
mod rehearsal;
mod share;
mod state;
mod warmed;
mod web;

pub use self::desk::{Denied, Desk, Granted, Until, WayBack, Wish};
pub use self::driver::{Driver, Told};
pub use self::evidence::{Drained, Evidence, Probed, Switched};
pub use self::figures::Figures;
pub use self::gate::{Gate, GateKind, GateState};
pub use self::guard::stand as stand_guard;
pub use self::judge::{Judgement, Measure, Verdict};
pub use self::pause::{Matter, Paused};
pub use self::recorder::{Figures as SecondOf, Flight, Frame, Span};
pub use self::rehearsal::Plan;
pub use self::share::given;
pub use self::state::{Cutover, Kind, Phase};
pub use self::warmed::Warmed;
