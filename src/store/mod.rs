//! Local durable state of a bridge.
