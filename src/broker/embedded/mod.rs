//! A small durable log on sled with the semantics of the contract: for the demo, the examples and the tests. No production broker.
