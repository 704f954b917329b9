//! Looks at a cluster every few seconds so that flows never wait for administration.
