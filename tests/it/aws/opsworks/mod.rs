//! OpsWorks Stacks by its real wire format: the stacks as orders see them, against doubles on loopback only.

mod double;
mod emulators;
mod faults;
mod provider;
mod stage;
