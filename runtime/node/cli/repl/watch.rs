//! `:watch`: changes of facts, printed as they come.

use super::input::Printer;
use crate::cli::client::{Client, encode};
use crate::cli::{Failure, Out};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use synod::api::{ChangeEvent, FactChange};
use tokio::task::JoinHandle;

/// Predicates that one toplevel may watch, at most.
const MAX_WATCHES: usize = 32;

/// Prints from beside the goals. Cheap to clone.
#[derive(Clone)]
pub(super) struct Beside {
    printer: Arc<Mutex<Option<Printer>>>,
    is_json: bool,
    /// Whether an answer stands on the line that is being written.
    pub(super) is_in_line: Arc<AtomicBool>,
}

impl Beside {
    pub(super) fn new(printer: Option<Printer>, is_json: bool) -> Self {
        Self { printer: Arc::new(Mutex::new(printer)), is_json, is_in_line: Arc::default() }
    }

    fn print(&self, event: &ChangeEvent) -> Result<(), Failure> {
        if self.is_json {
            return Out::new(true).json(event);
        }
        let text = describe(event);
        match &mut *self.printer.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(printer) => {
                let begin = if self.is_in_line.load(Ordering::Relaxed) { "\n" } else { "" };
                let printed = printer.print(format!("{begin}{text}\n"));
                printed.map_err(|error| Failure::error(format!("the terminal: {error}")))
            }
            None => Out::new(false).line(text),
        }
    }
}

fn describe(event: &ChangeEvent) -> String {
    let line = |what: &str, FactChange { index, by, fact, .. }: &FactChange| {
        format!("% {index} {by}: {what}({fact})")
    };
    match event {
        ChangeEvent::Asserted(change) => line("assertz", change),
        ChangeEvent::Retracted(change) => line("retract", change),
        ChangeEvent::Missed { after } => {
            format!("% the watch has ended: changes came too fast behind index {after}")
        }
    }
}

/// What is watched.
pub(super) struct Watches {
    client: Client,
    space: String,
    beside: Beside,
    running: BTreeMap<String, JoinHandle<()>>,
}

impl Watches {
    pub(super) fn new(client: Client, space: String, beside: Beside) -> Self {
        Self { client, space, beside, running: BTreeMap::new() }
    }

    /// Watches a predicate, from now on.
    pub(super) async fn begin(&mut self, predicate: &str) -> Result<(), Failure> {
        self.running.retain(|_, task| !task.is_finished());
        if self.running.contains_key(predicate) {
            return Ok(());
        }
        if self.running.len() >= MAX_WATCHES {
            let why = format!("{MAX_WATCHES} predicates are watched already: :unwatch one");
            return Err(Failure::error(why));
        }
        let path =
            format!("/v1/changes?predicate={}&space={}", encode(predicate), encode(&self.space));
        let mut events = self.client.get_events::<ChangeEvent>(&path).await?;
        let beside = self.beside.clone();
        let task = tokio::spawn(async move {
            // The end of the node, or of stdout, is told by whatever is done next.
            while let Ok(Some(event)) = events.next().await {
                if beside.print(&event).is_err() {
                    return;
                }
            }
        });
        self.running.insert(predicate.to_owned(), task);
        Ok(())
    }

    /// No longer. Says whether it was watched.
    pub(super) fn end(&mut self, predicate: &str) -> bool {
        self.running.remove(predicate).map(|task| task.abort()).is_some()
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.running.values().for_each(JoinHandle::abort);
    }
}
