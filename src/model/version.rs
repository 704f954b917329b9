//! Versions: unsigned 64-bit decimals that order the states of a key (semantics §6).
