//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use durable_write_worker::check;
use durable_write_worker::schema;

use crate::cluster::{Access, name};
use crate::drill::run;
use crate::report::Format;
use crate::traffic;

/// Runs failover drills of durable-write, shows them, writes their reports; shows pipelines and sends them sample messages.
///
/// It has the rights of your kubeconfig and, for `traffic`, of your AWS settings.
///
/// Exit codes: 0 it worked; 2 it did not, or the command line is wrong. `drill run`: 0 verdict Pass (or not waited for), 1 Fail, 2 every other
/// end. `drill report`: 2 also when the evidence cannot be verified. `traffic`: 1 when a message was not accepted. `check`: 1 when something is
/// wrong.
#[derive(Parser, Debug)]
#[command(name = "kubectl-dw", bin_name = "kubectl dw", version)]
pub struct Arguments {
    /// Which cluster and namespace.
    #[command(flatten)]
    pub access: Access,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run, show and judge failover drills
    #[command(subcommand)]
    Drill(Drill),
    /// Show a pipeline: conditions, queue, database, workers and its last drills
    Status {
        /// The pipeline
        #[arg(value_parser = name)]
        pipeline: String,
    },
    /// Send sample messages to a pipeline's queue, under your own AWS identity (exit code 1: some were not accepted)
    Traffic(traffic::Arguments),
    /// Print, or apply, the SQL that a pipeline's table and its user need
    Schema(schema::Arguments),
    /// Check everything that a manifest names (exit code 1: something is wrong)
    Check(check::Arguments),
    /// Print completions of `kubectl-dw` for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What to do with drills.
#[derive(Subcommand, Debug)]
pub enum Drill {
    /// Create a drill, watch it and end with its verdict
    ///
    /// The Aurora cluster of the pipeline is failed over once, under load. On a terminal the last line is renewed each second; else each line is
    /// printed once. Ctrl-C stops watching, not the drill.
    ///
    /// Exit codes: 0 Pass (also with --no-wait and --dry-run), 1 Fail, 2 every other end: Inconclusive, Aborted, Error, refused, deleted, not
    /// watched to the end; with --output also Pass when the report could not be written or its evidence not be verified.
    Run(Box<run::Arguments>),
    /// List drills, the newest last
    List {
        /// Of all namespaces
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Show everything that is known of a drill
    Show {
        /// The drill
        #[arg(value_parser = name)]
        name: String,
    },
    /// End a drill; a failover that was called for is not undone
    Abort {
        /// The drill
        #[arg(value_parser = name)]
        name: String,
    },
    /// Write the report of a drill from its evidence, which is compared with the digest in the drill's status
    ///
    /// Exit codes: 0 written; 2 also when it was written and its evidence cannot be verified (changed, missing, without a digest, or the drill is
    /// deleted), which the report says too.
    Report(Report),
    /// Show two drills side by side, and what differs in how they were run
    Compare {
        /// A drill
        #[arg(value_parser = name)]
        one: String,
        /// Another drill
        #[arg(value_parser = name)]
        other: String,
    },
}

/// What report, and where to.
#[derive(Args, Debug)]
pub struct Report {
    /// The drill
    #[arg(value_parser = name)]
    pub name: String,
    /// Its form
    #[arg(short, long, value_enum, default_value = "md")]
    pub output: Format,
    /// The file; by default it is printed
    #[arg(long)]
    pub file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_has_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_of_kubectl_are_taken_before_and_after_the_command() {
        for line in [["dw", "-n", "shop", "drill", "list"], ["dw", "drill", "list", "--namespace", "shop"]] {
            assert!(Arguments::try_parse_from(line).is_ok(), "{line:?}");
        }
        assert!(Arguments::try_parse_from(["dw", "drill", "run", "orders", "-o", "html"]).is_err(), "a report needs a file");
        assert!(Arguments::try_parse_from(["dw", "drill", "run", "orders", "--no-wait", "--dry-run"]).is_err());
    }

    #[test]
    fn what_is_no_name_is_refused_wherever_one_is_asked_for() {
        let lines = "drill run X|drill run a --name X|drill show X|drill abort X|drill report X|drill compare X a|drill compare a X|status X|\
                     traffic X|-n X drill list";
        for line in lines.split('|') {
            let with =
                |name: &str| Arguments::try_parse_from(["dw"].into_iter().chain(line.split(' ')).map(|word| word.replace('X', name)));
            assert!(with("a").is_ok() && with("a/b").is_err(), "{line}");
        }
    }
}
