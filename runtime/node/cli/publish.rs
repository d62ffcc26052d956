//! `synod publish TOPIC TERM` and `synod subscribe TOPIC`

use super::client::{CallError, Client, Events, encode, json_of};
use super::foreground::Signals;
use super::say::say;
use super::transact::LabelArg;
use super::upload::upload;
use super::{Failure, Global, Out, Verdict};
use clap::Args;
use serde_json::Value;
use synod::api::{PublishTerm, PublishedLines, TopicMessage};

/// Gossip a term to whoever subscribes to a topic, on all nodes: at most once, in no order
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic
    topic: String,
    /// The term; with `-`, each line of stdin is one
    term: String,
    #[command(flatten)]
    label: LabelArg,
}

/// Print what is gossiped under a topic, as it comes, until Ctrl-C
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The topic
    topic: String,
    /// End after so many messages
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", hide_env = true,
          value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Publish {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        let Self { topic, term, label } = self;
        if term == "-" {
            let (body, reading) = upload(std::io::stdin());
            let from = encode(&label.label);
            let path = format!("/v1/publish/lines?topic={}&from={from}", encode(&topic));
            let answer = client.post_stream(&path, body).await?;
            reading.ended(|why| format!("stdin: {why}")).await?;
            let PublishedLines { published } = json_of(answer.into_body()).await?;
            global.out().line(format_args!("{published} terms published"))?;
            return Ok(Verdict::Yes);
        }
        let request = PublishTerm { topic, term, from: Some(label.label) };
        let published: Result<Value, CallError> = client.post("/v1/publish", &request).await;
        match published {
            Ok(_) => Ok(Verdict::Yes),
            Err(CallError::Told(error)) => Err(Failure::told_of_text(error, &request.term)),
            Err(error) => Err(error.into()),
        }
    }
}

impl Subscribe {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        let path = format!("/v1/subscribe?topic={}", encode(&self.topic));
        let events = client.get_events(&path).await?;
        let mut signals = Signals::new()?;
        let mut out = global.out();
        tokio::select! {
            ended = print(&mut out, events, self.count) => ended,
            // Whoever listens has heard enough.
            () = signals.next() => Ok(Verdict::Yes),
            () = Out::closed() => Ok(Verdict::Yes),
        }
    }
}

async fn print(
    out: &mut Out,
    mut events: Events<TopicMessage>,
    count: Option<u64>,
) -> Result<Verdict, Failure> {
    let mut printed = 0;
    while let Some(event) = events.next().await? {
        if out.is_json() {
            out.json(&event)?;
        }
        match &event {
            TopicMessage::Message { from, node, term, .. } => {
                if !out.is_json() {
                    out.line(format_args!("{from}@{node}: {term}"))?;
                }
                printed += 1;
            }
            TopicMessage::Missed { messages } => {
                say(format_args!("synod: {messages} messages were missed: they came too fast"));
            }
        }
        if count == Some(printed) {
            return Ok(Verdict::Yes);
        }
    }
    Err(Failure::error("the node went away; see whether it still runs: synod status"))
}
