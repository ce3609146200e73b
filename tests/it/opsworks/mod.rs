//! Stacks at Amazon by their real wire formats, against doubles on loopback only.

mod double;
