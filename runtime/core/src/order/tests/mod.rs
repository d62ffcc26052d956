//! Tests of the machine.

mod sole;
