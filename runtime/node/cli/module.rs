//! `synod module publish|list|get`

use super::client::{Client, encode};
use super::space::SpaceArg;
use super::table::{Table, bytes};
use super::{Failure, Global, Verdict, units};
use clap::{Args, Subcommand};
use std::io::Read;
use std::path::PathBuf;
use synod::api::{ModuleInfo, ModuleText, PublishRequest, Published};
use synod_core::command::MAX_MODULE_BYTES;

/// Publish, list or get a space's modules
#[derive(Debug, Subcommand)]
pub(crate) enum Module {
    /// Make a file's text a module of the space, for use_module(net(NAME))
    Publish(Publish),
    /// List the space's modules
    List(SpaceArg),
    /// Print a module's text
    Get(Get),
}

/// What to publish.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The module's name
    #[arg(value_parser = units::module)]
    name: String,
    /// The file with its Prolog text
    file: PathBuf,
    #[command(flatten)]
    space: SpaceArg,
}

/// What to get.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The module's name
    #[arg(value_parser = units::module)]
    name: String,
    #[command(flatten)]
    space: SpaceArg,
}

impl Module {
    pub(crate) async fn run(self, global: &Global) -> Result<Verdict, Failure> {
        let client = Client::new(&global.data()?);
        match self {
            Self::Publish(publish) => publish.run(&client, global).await,
            Self::List(space) => list(&client, &space, global).await,
            Self::Get(get) => get.run(&client, global).await,
        }
    }
}

impl Publish {
    async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let Self { name, file, space } = self;
        let mut text = String::new();
        let read = std::fs::File::open(&file)
            .and_then(|it| it.take(MAX_MODULE_BYTES as u64 + 1).read_to_string(&mut text));
        read.map_err(|error| Failure::error(format!("{}: {error}", file.display())))?;
        if text.len() > MAX_MODULE_BYTES {
            let line = format!("{}: a module has {MAX_MODULE_BYTES} bytes at most", file.display());
            return Err(Failure::error(line));
        }
        let request = PublishRequest { name, text, space: space.space };
        let published: Published = client.post("/v1/modules", &request).await?;
        let mut out = global.out();
        if out.is_json() {
            out.json(&published)?;
        } else {
            out.line(format_args!("published at index {}", published.index))?;
        }
        Ok(Verdict::Yes)
    }
}

async fn list(client: &Client, space: &SpaceArg, global: &Global) -> Result<Verdict, Failure> {
    let path = format!("/v1/modules{}", space.as_query());
    let modules: Vec<ModuleInfo> = client.get(&path).await?;
    let mut out = global.out();
    if out.is_json() {
        modules.iter().try_for_each(|module| out.json(module))?;
    } else {
        let mut table = Table::new(["MODULE", "SIZE"]);
        modules.iter().for_each(|it| table.row([it.name.clone(), bytes(it.bytes)]));
        table.print(&mut out)?;
    }
    Ok(Verdict::Yes)
}

impl Get {
    async fn run(self, client: &Client, global: &Global) -> Result<Verdict, Failure> {
        let path = format!("/v1/modules/{}{}", encode(&self.name), self.space.as_query());
        let module: ModuleText = match client.get(&path).await {
            Ok(module) => module,
            Err(error) => return error.or_no(),
        };
        let mut out = global.out();
        if out.is_json() {
            out.json(&module)?
        } else {
            out.text(&module.text)?
        }
        Ok(Verdict::Yes)
    }
}
