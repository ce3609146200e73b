//! Endpoints that are discovered: a name server proposes, health checks decide, and no bad answer costs anyone anything.

mod answers;
mod lookup;
mod operate;
mod stage;
mod switch;
