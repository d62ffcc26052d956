//! x

crate::tests! {}
