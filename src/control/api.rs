//! The HTTP endpoint: health, metrics, status, plan.
