//! Route 53 by its real wire format: the zone as the follower sees it, against doubles on loopback only.

mod faults;
mod stage;
mod zone;
