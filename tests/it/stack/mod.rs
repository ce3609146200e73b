//! Stacks: cloned, started, deployed to and stopped by orders, whatever the provider, the network and the power do meanwhile.

mod crash;
mod ended;
mod orders;
mod permit;
mod prepare;
mod release;
mod stage;
