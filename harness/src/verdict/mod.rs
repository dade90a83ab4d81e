//! Baselines + observation → verdict. Pure.
