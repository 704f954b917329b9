//! One stream of a link: where it stands, what it is doing, why it stands still.
