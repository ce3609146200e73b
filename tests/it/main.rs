//! The behaviour of the whole program, through real sockets: the harness, then one room for each part of the promise.

mod access_log;
mod aws;
mod canary;
mod carry;
mod decide;
mod demo;
mod discover;
mod disk;
mod dns;
mod edge;
mod harness;
mod managed;
mod operate;
mod plan;
mod probes;
mod reload;
mod retire;
mod stack;
mod survive;
mod switch;
mod tail;
mod tls;
mod warm;
