//! The one binary: the command line, the node that `up` and `run` are, and the engine's process.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
