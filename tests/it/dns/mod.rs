//! DNS follows: what names lead to behind a switch, how that is proved, and what happens when the provider does not play along.

mod follow;
mod operate;
mod phase;
mod proof;
pub mod stage;
