//! What Synod's tests check the real thing against: models that are too plain to be wrong in the
//! same way, and what they are fed with.

pub mod reference;
pub mod terms;
