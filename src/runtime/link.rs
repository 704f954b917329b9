//! The flow from a peer region into this one.
