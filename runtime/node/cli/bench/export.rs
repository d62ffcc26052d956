//! `synod bench export`: a log to a file, the file verified, and imported again.

use super::history::{self, Kind, hash, read};
use super::node::Folder;
use super::report::Report;
use crate::cli::{Failure, units};
use clap::Args;
use std::fs::File;
use std::path::Path;
use std::time::Instant;
use synod::past::export::Exporter;
use synod::past::import::import;
use synod::past::spool::Spool;
use synod::past::{Past, Span};
use synod::verify::verify_export;

const MB: f64 = 1e6;

/// Exporting a log, verifying the export and importing it, against reading the file and hashing its
/// chain alone
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Export {
    /// Commands
    #[arg(long, env = "SYNOD_COUNT", value_name = "N", default_value = "2M",
          value_parser = units::count, hide_env = true)]
    count: u64,
    /// Bytes of the event that each of them emits
    #[arg(long, env = "SYNOD_EVENT", value_name = "SIZE", default_value = "200",
          value_parser = units::bytes, hide_env = true)]
    event: u64,
}

impl Export {
    pub(super) fn run(self, folder: &Folder, report: &mut Report) -> Result<(), Failure> {
        let failed = |e: &dyn std::fmt::Display| Failure::error(e.to_string());
        let (made, copy) = (folder.path().join("made.cbor"), folder.path().join("copy.cbor"));
        let data = folder.path().join("n");
        let kind = Kind::Event(usize::try_from(self.event).unwrap_or(usize::MAX));
        let written = history::write(&made, kind, self.count, |index| {
            report.progress("commands made", index, self.count);
        })?;
        let rate = |start: Instant| written.bytes as f64 / MB / start.elapsed().as_secs_f64();
        report.figure("bytes of a command, at most", written.longest as f64, "bytes")?;
        report.figure("bytes of the export", written.bytes as f64 / MB, "MB")?;

        let start = Instant::now();
        let source = File::open(&made).map_err(|e| failed(&e))?;
        let progress = |index| report.progress("imported", index, self.count);
        import(&data, synod::node::LOCAL, source, &made, progress).map_err(|e| failed(&e))?;
        report.figure("import into an empty space", rate(start), "MB/s")?;

        let seconds = read(&made)?.as_secs_f64();
        report.figure("floor: read the file", written.bytes as f64 / MB / seconds, "MB/s")?;
        let seconds = hash(&made)?.as_secs_f64();
        report.figure(
            "floor: its chain, hashed alone",
            written.bytes as f64 / MB / seconds,
            "MB/s",
        )?;

        let past = Past::of_folder(&data.join("spaces").join(synod::node::LOCAL));
        let past = past.map_err(|e| failed(&e))?;
        for to in [Path::new("/dev/null"), &copy] {
            let start = Instant::now();
            let file = File::create(to).map_err(|e| failed(&e))?;
            let mut spool = Spool::start(file).map_err(|e| failed(&e))?;
            let mut exporter = Exporter::open(&past, Span::default()).map_err(|e| failed(&e))?;
            let piece = |exporter: &mut Exporter, spool: &Spool<File>| {
                exporter.next_piece_into(|| spool.spare()).map_err(|e| failed(&e))
            };
            while let Some(piece) = piece(&mut exporter, &spool)? {
                spool.write(piece).map_err(|e| failed(&e))?;
                report.progress("exported", exporter.place().index, self.count);
            }
            spool.write(exporter.finish()).map_err(|e| failed(&e))?;
            spool.finish().map_err(|e| failed(&e))?;
            let name = format!("export to {}", if to == copy { "a file" } else { "/dev/null" });
            report.figure(&name, rate(start), "MB/s")?;
        }
        let start = Instant::now();
        let source = File::open(&copy).map_err(|e| failed(&e))?;
        let progress = |index| report.progress("verified", index, self.count);
        verify_export(source, progress).map_err(|e| failed(&e))?;
        report.figure("verify", rate(start), "MB/s")
    }
}
