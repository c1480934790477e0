//! Tests through the binary, in real processes.
