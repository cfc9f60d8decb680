//! A file for a shell: with it, kubectl, helm, psql and aws talk to the demo.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::drive::{NAMESPACE, plugin};
use crate::cluster::Cluster;
use crate::environment::{Access, SHOP, host_and_port};
use crate::sqs::REGION;
use crate::tools;

/// Writes the file and what it names; only the owner can read them, as they hold passwords and keys.
pub(super) async fn write(folder: &Path, cluster: &Cluster, access: &Access) -> anyhow::Result<PathBuf> {
    let programs = programs(folder).await?;
    let kubeconfig = folder.join("kubeconfig");
    private(&kubeconfig, &fs::read_to_string(cluster.kubeconfig()).context("read the kubeconfig")?)?;
    let file = kubeconfig.to_str().context("the folder of the demo is no text")?;
    cluster.kubectl(["config", "set-context", "--current", "--namespace", NAMESPACE, "--kubeconfig", file]).await?;
    let authority = folder.join("ca.pem");
    private(&authority, &access.ca)?;

    let (host, port) = host_and_port(&access.endpoint)?;
    let (kubeconfig, authority) = (kubeconfig.display(), authority.display());
    let Access { sqs, rds, username, password, .. } = access;
    let environment = folder.join("env");
    let text = format!(
        "export KUBECONFIG='{kubeconfig}' PATH='{}':\"$PATH\"
export PGHOST={host} PGPORT={port} PGDATABASE={SHOP} PGUSER={username} PGPASSWORD={password} PGSSLMODE=verify-full PGSSLROOTCERT='{authority}'
export AWS_REGION={REGION} AWS_DEFAULT_REGION={REGION} AWS_ACCESS_KEY_ID=testbed AWS_SECRET_ACCESS_KEY=testbed AWS_PAGER=
export AWS_ENDPOINT_URL_SQS={sqs} AWS_ENDPOINT_URL_RDS={rds}
",
        programs.display()
    );
    private(&environment, &text)?;
    Ok(environment)
}

/// A folder with kubectl and its plugin, helm and aws.
async fn programs(folder: &Path) -> anyhow::Result<PathBuf> {
    let (kubernetes, helm, aws) =
        tokio::task::spawn_blocking(|| anyhow::Ok((tools::kubernetes()?, tools::helm()?, tools::aws()?))).await??;
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    for (program, name) in [(kubernetes, "kubectl"), (helm, "helm"), (aws, "aws"), (plugin()?, "kubectl-dw")] {
        let link = programs.join(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("replace {}", link.display()));
            }
            _ => symlink(program, &link).with_context(|| format!("link {}", link.display()))?,
        }
    }
    Ok(programs)
}

fn private(file: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        fs::write(file, "")?;
        fs::set_permissions(file, Permissions::from_mode(0o600))?;
        fs::write(file, text)
    };
    write().with_context(|| format!("write {}", file.display()))
}
