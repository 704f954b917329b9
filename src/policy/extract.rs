//! Finds the routing key and the version in a record, as its topic declares.
