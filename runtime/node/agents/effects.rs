//! What a committed run wants done outside of the knowledge base.

use super::context::Registered;
use super::task::Task;
use super::timers::MAX_TIMERS;
use std::time::Duration;
use synod_core::kb::Indicator;
use synod_prolog::frame::{self, Effect};
use tokio::time::Instant;

impl Task {
    /// Does what a committed run wants done outside of the knowledge base, in order.
    pub(super) async fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Output { bytes } => self.registered.log.output(&bytes),
                Effect::Log { level, text } => {
                    self.registered.log.line(level_name(level), &text);
                }
                Effect::After { micros, term } => self.arm(micros, false, term),
                Effect::Every { micros, term } => self.arm(micros, true, term),
                Effect::Cancel { term } => {
                    self.timers.cancel(&term);
                    self.registered.mailbox.take_back_timer(&term);
                }
                Effect::Watch { name, arity, others } => {
                    self.watches.watch(Indicator::new(&name, arity), others);
                }
                Effect::Unwatch { name, arity } => {
                    self.watches.unwatch(&Indicator::new(&name, arity));
                }
                Effect::Subscribe { topic } => self.registered.subscribe(&topic),
                Effect::Unsubscribe { topic } => self.registered.unsubscribe(&topic),
                Effect::Publish { topic, term } => {
                    let from = &self.definition.name;
                    if let Err(why) = self.context.publish(&topic, from, &term) {
                        self.log("error", &format!("nothing was published: {why}"));
                    }
                }
                Effect::UdpSend { scope, term } => {
                    if let Err(why) = self.registered.udp_send(&scope, &term).await {
                        self.log("error", &why);
                    }
                }
                Effect::Send { agent, term } => {
                    let from = &self.definition.name;
                    if let Err(why) = self.context.send_anywhere(&agent, from, &term).await {
                        self.log("warning", &why);
                    }
                }
            }
        }
    }

    fn arm(&mut self, micros: u64, every: bool, term: Vec<u8>) {
        let after = Duration::from_micros(micros);
        if !self.timers.arm(Instant::now(), after, every, term) {
            let bound = MAX_TIMERS;
            self.log("error", &format!("a timer was not armed: there are {bound} already"));
        }
    }
}

fn level_name(level: frame::Level) -> &'static str {
    match level {
        frame::Level::Debug => "debug",
        frame::Level::Info => "info",
        frame::Level::Warning => "warning",
        frame::Level::Error => "error",
    }
}

impl Registered {
    /// Takes what an engine printed and logged outside of any run; the rest means nothing there.
    pub(super) fn hear(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Output { bytes } => self.log.output(&bytes),
                Effect::Log { level, text } => self.log.line(level_name(level), &text),
                _ => self.log.line("warning", "a program may arm nothing while it is loaded"),
            }
        }
    }
}
