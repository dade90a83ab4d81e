//! Rewriting of nasty C.
