//! The control topic: a signed key-value log that every process of a region reads whole.
