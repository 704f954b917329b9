//! The files users write: read with positions, checked whole, turned into values.
