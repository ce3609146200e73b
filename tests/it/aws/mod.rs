//! Route 53 by its real wire format: the zone as the follower sees it, against doubles on loopback only.

mod check;
mod credentials;
mod emulators;
mod faults;
mod opsworks;
mod race;
mod scaling;
mod secrets;
mod sources;
pub mod stage;
mod suite;
mod zone;
