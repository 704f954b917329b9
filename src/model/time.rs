//! Times as users write them and as records carry them.
