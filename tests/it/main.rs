//! The behaviour of the whole program, through real sockets.

mod plan;
