//! Side engines: goals and their answers.

crate::tests! {}
