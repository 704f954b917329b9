//! Every metric, its name and its labels, in one place.
