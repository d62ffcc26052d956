//! `synod bench publish`: gossip from one node to another.

use super::node::{BenchNode, Folder};
use super::report::Report;
use crate::cli::client::{Events, json_of};
use crate::cli::upload::upload;
use crate::cli::{Failure, units};
use clap::Args;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use synod::api::{AddressRequest, MeInfo, PeerAnswer, PublishedLines, TopicMessage};
use tokio::time::timeout;

/// The topic that is measured.
const TOPIC: &str = "bench";
/// How long the nodes have to connect and to hear each other.
const READY: Duration = Duration::from_secs(30);
/// How far what is published is ahead of what was heard, at most: a node keeps no more for a
/// subscriber, and drops what comes beyond that.
const AHEAD: u64 = 512;
/// How long no message comes once all have come that do.
const SILENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether they hear each other.
const LOOK: Duration = Duration::from_millis(50);

/// Terms published at one node, as the lines of one request, and read by a subscriber at another:
/// signed, batched, at most once
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Publish {
    /// Messages
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "1M",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// Bytes of a message's term
    #[arg(long, env = "SYNOD_BYTES", value_name = "N", default_value_t = 100, hide_env = true)]
    bytes: usize,
}

impl Publish {
    pub(super) async fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let from = BenchNode::start_in(folder, 0, true)?;
        let to = BenchNode::start_in(folder, 1, true)?;
        let there: MeInfo = to.client.get("/v1/peers/id").await?;
        let address = there.listening.first().cloned();
        let address = address.ok_or_else(|| Failure::error("a node listens nowhere"))?;
        let _: PeerAnswer =
            from.client.post("/v1/peers/connect", &AddressRequest { address }).await?;
        let path = format!("/v1/subscribe?topic={TOPIC}");
        let mut heard: Events<TopicMessage> = to.client.get_events(&path).await?;
        // Subscriptions take a moment to be known.
        let until = Instant::now() + READY;
        while timeout(LOOK, heard.next()).await.is_err() {
            if Instant::now() > until {
                return Err(Failure::error("the nodes do not hear each other"));
            }
            self.publish(&from, 1, &Arc::default()).await?;
        }
        while timeout(SILENCE / 4, heard.next()).await.is_ok() {}
        let (start, window) = (Instant::now(), Arc::new(Window::default()));
        let publishing = self.publish(&from, self.count, &window);
        let hearing = async {
            let (mut came, mut missed, mut last) = (0_u64, 0_u64, start);
            while came + missed < self.count {
                match timeout(SILENCE, heard.next()).await {
                    Ok(Ok(Some(TopicMessage::Message { .. }))) => came += 1,
                    Ok(Ok(Some(TopicMessage::Missed { messages }))) => missed += messages,
                    Ok(Ok(None)) => return Err(Failure::error("the node went away")),
                    Ok(Err(error)) => return Err(Failure::from(error)),
                    Err(_) => break,
                }
                last = Instant::now();
                window.heard(came + missed);
            }
            // What is lost is no reason for the other end to wait.
            window.heard(u64::MAX / 2);
            Ok((came, (last - start).as_secs_f64()))
        };
        let ((), (came, seconds)) = tokio::try_join!(publishing, hearing)?;
        let name = format!("{}-byte messages, node to node, batched", self.bytes);
        report.figure(&name, came as f64 / seconds, "messages/s")?;
        report.figure("of those published, heard", came as f64 / self.count as f64 * 100.0, "%")
    }

    /// Publishes so many, as far as the window lets it.
    async fn publish(
        &self,
        node: &BenchNode,
        count: u64,
        window: &Arc<Window>,
    ) -> Result<(), Failure> {
        let text = "x".repeat(self.bytes.saturating_sub(2));
        let line = format!("\"{text}\"\n");
        let window = Arc::clone(window);
        let (body, reading) = upload(Lines { line: line.into_bytes(), read: 0, count, window });
        let path = format!("/v1/publish/lines?topic={TOPIC}");
        let answer = node.client.post_stream(&path, body).await?;
        reading.ended(str::to_owned).await?;
        let PublishedLines { published } = json_of(answer.into_body()).await?;
        if published != count {
            return Err(Failure::error(format!("{published} of {count} were published")));
        }
        Ok(())
    }
}

/// How many messages were heard, for whoever publishes.
#[derive(Default)]
struct Window {
    heard: Mutex<u64>,
    moved: Condvar,
}

impl Window {
    fn heard(&self, count: u64) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = count;
        self.moved.notify_one();
    }

    /// Waits until more than this may be published; gives how many may.
    fn beyond(&self, published: u64) -> u64 {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shut = |heard: &mut u64| *heard + AHEAD <= published;
        let heard = self.moved.wait_while(heard, is_shut).unwrap_or_else(PoisonError::into_inner);
        *heard + AHEAD
    }
}

/// A line, so many times.
struct Lines {
    line: Vec<u8>,
    /// Those that have been read.
    read: u64,
    count: u64,
    window: Arc<Window>,
}

impl std::io::Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read == self.count {
            return Ok(0);
        }
        let upto = self.window.beyond(self.read).min(self.count);
        let mut len = 0;
        while self.read < upto
            && let Some(place) = buffer.get_mut(len..len + self.line.len())
        {
            place.copy_from_slice(&self.line);
            (len, self.read) = (len + self.line.len(), self.read + 1);
        }
        Ok(len)
    }
}
