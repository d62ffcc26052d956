//! Events for the agent that is measured, as fast as it handles them, and how far it has come
//! meanwhile.

use super::node::{BenchNode, Usage};
use super::report::Report;
use super::stream::{Stream, event};
use crate::cli::Failure;
use std::time::{Duration, Instant};
use synod_core::term::Term;
use tokio::time::{MissedTickBehavior, interval};

/// Events in flight.
const IN_FLIGHT: usize = 256;
/// How many events the log is ahead of the agent, at most: it always has a full batch before it.
const AHEAD: u64 = 8192;
/// How often it is looked how far the agent has come.
const LOOK: Duration = Duration::from_millis(20);

/// How far the agent had come at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    /// Events handled.
    pub(super) handled: u64,
    pub(super) usage: Usage,
}

/// The first `count` events made by `term` are handled. Returns how that went.
pub(super) async fn run(
    node: &BenchNode,
    count: u64,
    term: impl Fn(u64) -> Term,
    report: &mut Report,
) -> Result<Vec<Sample>, Failure> {
    let mut stream = Stream::open(&node.client).await?;
    // What it has handled already: that it has been started.
    let before = node.agent().await?.handled;
    let mut samples = vec![sample(node, before).await?];
    let (mut made, mut handled) = (0, 0);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while handled < count {
        let upto = count.min(handled + AHEAD);
        while made < upto && stream.in_flight() < IN_FLIGHT {
            stream.propose(&event(&term(made))?);
            made += 1;
        }
        stream.send();
        tokio::select! {
            biased;
            _ = look.tick() => {
                let sample = sample(node, before).await?;
                handled = sample.handled;
                samples.push(sample);
                report.progress("handled", handled, count);
            }
            answered = stream.answered(), if stream.in_flight() > 0 => answered?,
        }
    }
    Ok(samples)
}

async fn sample(node: &BenchNode, before: u64) -> Result<Sample, Failure> {
    let (handled, usage) = node.progress().await?;
    Ok(Sample { at: Instant::now(), handled: handled.saturating_sub(before), usage })
}

/// The time at which so many had been handled, and both processes' processor time until then, in
/// seconds: by the straight line between the samples around it.
pub(super) fn when(samples: &[Sample], handled: f64) -> Option<(f64, f64)> {
    let first = samples.first()?;
    let place = |sample: &Sample| {
        let at = sample.at.duration_since(first.at).as_secs_f64();
        (at, sample.usage.time().as_secs_f64())
    };
    let next = samples.iter().position(|sample| sample.handled as f64 >= handled)?;
    let (before, after) = (&samples[next.saturating_sub(1)], &samples[next]);
    let span = (after.handled - before.handled) as f64;
    let part = if span > 0.0 { (handled - before.handled as f64) / span } else { 1.0 };
    let ((at0, time0), (at1, time1)) = (place(before), place(after));
    Some((at0 + (at1 - at0) * part, time0 + (time1 - time0) * part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_samples_time_goes_straight() {
        let start = Instant::now();
        let sample = |millis: u64, handled| Sample {
            at: start + Duration::from_millis(millis),
            handled,
            usage: Usage::for_test(Duration::from_millis(millis)),
        };
        let samples = [sample(0, 0), sample(1000, 100), sample(3000, 200)];
        assert_eq!(when(&samples, 50.0), Some((0.5, 1.0)));
        assert_eq!(when(&samples, 100.0), Some((1.0, 2.0)));
        assert_eq!(when(&samples, 150.0), Some((2.0, 4.0)));
        assert_eq!(when(&samples, 201.0), None);
    }
}
