//! Edges of copying between real Kafka clusters: what sources lose, topics that change under a running bridge, odd
//! records and topic settings, records that applications publish anew. Operators' steps are taken with the program.
//!
//! The same promises are checked on embedded clusters in `copy_embedded.rs`; here real brokers may disagree.

mod known;
mod limits;
mod lost;
mod partitions;
mod republished;
mod shapes;
mod topologies;
mod way;
