//! stub

/// Arguments of this part.
#[derive(Debug, clap::Args)]
pub struct Arguments {}

/// Runs the command.
///
/// # Errors
/// The command failed.
pub async fn run(_: Arguments) -> anyhow::Result<()> {
    Ok(())
}
