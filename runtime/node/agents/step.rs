//! Goals that go on answer by answer, as at a toplevel: the client names such a goal, and asks for
//! each further answer under that name. So nothing is done for an answer that nobody wanted.

use crate::api::ErrorBody;
use crate::space::error;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Bytes of a goal's name, at most.
const MAX_NAME: usize = 64;

/// The goals that wait, or may come to wait, to be asked for more.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Arc<Mutex<BTreeMap<String, Arc<Notify>>>>);

/// One such goal. Its name is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Step {
    steps: Steps,
    name: String,
    asked: Arc<Notify>,
}

impl Steps {
    /// Takes a name.
    pub(super) fn begin(&self, name: String) -> Result<Step, ErrorBody> {
        if name.is_empty() || name.len() > MAX_NAME {
            let why = format!("a goal's name for `step` has 1 to {MAX_NAME} bytes");
            return Err(error("bad_request", why));
        }
        let asked = Arc::new(Notify::new());
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains_key(&name) {
            return Err(error(
                "exists",
                format!("a goal named {name} is being solved already: give it another `step`"),
            ));
        }
        names.insert(name.clone(), Arc::clone(&asked));
        drop(names);
        Ok(Step { steps: self.clone(), name, asked })
    }

    /// A step that only who has it can ask.
    pub(super) fn unnamed(&self) -> Step {
        Step { steps: Self::default(), name: String::new(), asked: Arc::default() }
    }

    /// Asks a goal for more. Whoever asks twice for one answer gets one.
    pub(super) fn more(&self, name: &str) -> Result<(), ErrorBody> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = || {
            error(
                "not_found",
                format!("no goal named {name} waits here: it has ended, or was never asked"),
            )
        };
        names.get(name).ok_or_else(missing)?.notify_one();
        Ok(())
    }
}

impl Step {
    /// Asks for more.
    pub(super) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Waits to be asked for more.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        let mut names = self.steps.0.lock().unwrap_or_else(PoisonError::into_inner);
        names.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_taken_until_its_goal_has_ended() {
        let steps = Steps::default();
        assert_eq!(steps.more("a").unwrap_err().code, "not_found");
        let step = steps.begin("a".into()).unwrap();
        assert_eq!(steps.begin("a".into()).unwrap_err().code, "exists");
        assert_eq!(steps.begin("x".repeat(MAX_NAME + 1)).unwrap_err().code, "bad_request");
        steps.more("a").unwrap();
        step.asked().await;
        drop(step);
        assert_eq!(steps.more("a").unwrap_err().code, "not_found");
        steps.begin("a".into()).unwrap();
    }
}
