//! One record, one verdict: was it born here, is it a copy, does this link carry it.
