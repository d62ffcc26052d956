//! `synod log import`

use super::super::client::Client;
use super::super::progress::Progress;
use super::super::space::SpaceArg;
use super::super::upload::upload;
use super::super::{Failure, Global, Verdict};
use clap::Args;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use synod::api::Imported;
use synod::node::LOCAL;
use synod::past::import::import;

/// Make an export the log of an empty space
#[derive(Debug, Args)]
#[command(after_help = "\
Commands keep their indexes and times. The chain of a log starts from its space's id, so the space becomes \
the one that was exported, under the name that it has here: its chain and digest are the same. The space \
must be empty: one of a fresh data folder. Works with a node and without one.")]
pub(crate) struct Import {
    /// The export; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    space: SpaceArg,
}

impl Import {
    pub(super) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let data = global.data()?;
        let client = Client::new(&data);
        let source = open(&self.file)?;
        let mut progress = Progress::new("importing");
        let imported = if client.is_up().await? {
            self.through(&client, source).await?
        } else {
            let name = self.space.space.as_deref().unwrap_or(LOCAL);
            if name != LOCAL {
                let text = format!("without a node a log is imported into the space {LOCAL} only");
                return Err(Failure::error(text));
            }
            let imported = import(&data, name, source, &self.file, |index| progress.at(index));
            imported.map_err(|e| Failure::error(in_file(&self.file, &e.to_string())))?
        };
        progress.clear();
        let mut out = global.out();
        if out.is_json() {
            out.json(&imported)?;
        } else {
            let Imported { space, commands, chain, digest, .. } = imported;
            out.line(format_args!("{space}: {commands} commands, chain {chain}, digest {digest}"))?;
        }
        Ok(Verdict::Yes)
    }

    /// Sends the file to the node.
    async fn through(
        &self,
        client: &Client,
        source: Box<dyn Read + Send>,
    ) -> Result<Imported, Failure> {
        let (body, reading) = upload(source);
        let path = format!("/v1/log/import{}", self.space.as_query());
        let answer = client.post_stream(&path, body).await;
        let body = match answer {
            Ok(answer) => answer.into_body(),
            Err(super::super::client::CallError::Told(mut error)) => {
                if error.code == "bad_request" {
                    error.message = in_file(&self.file, &error.message);
                }
                return Err(Failure::told(error));
            }
            Err(error) => return Err(error.into()),
        };
        reading.ended(|why| in_file(&self.file, why)).await?;
        super::super::client::json_of(body).await.map_err(Failure::from)
    }
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    let file = File::open(path).map_err(|e| Failure::error(in_file(path, &e.to_string())))?;
    Ok(Box::new(file))
}

fn in_file(path: &Path, why: &str) -> String {
    format!("{}: {why}", path.display())
}
