//! IAM database authentication as Aurora does it: who has the role `rds_iam` gives its token as a password, in clear text within TLS, and the
//! server has it verified. Aurora has PAM do that, here it is LDAP: `pam_exec` passes no more than 512 bytes on (`PAM_MAX_RESP_SIZE`), and the
//! tokens of a pod with a session are longer. To a client both look the same, down to SQLSTATE 28000.

mod ldap;
mod token;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::node::Node;

pub use self::token::AwsIdentity;

/// A server that asks nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who may log in, and who could not.
#[derive(Default)]
pub(super) struct Logins {
    /// The right `rds-db:connect`: identities, each with a user.
    pub allowed: Vec<(AwsIdentity, String)>,
    /// Why tokens were refused, with instance and user.
    pub refused: Vec<String>,
}

/// The line for a server's `pg_hba.conf`, with the verifier at `port`. It says who asks, as a token is good for one instance only.
pub(super) fn rule(node: &Node, port: u16) -> String {
    format!("hostssl all +rds_iam all ldap ldapserver=127.0.0.1 ldapport={port} ldapprefix=\"{}/\"\n", node.name)
}

/// Verifies tokens for the servers of `cluster`.
pub(super) fn serve(cluster: &Arc<Cluster>, listener: TcpListener) {
    let served = cluster.this.clone();
    cluster.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Some(cluster) = served.upgrade() else { return };
            let served = served.clone();
            cluster.spawn(async move { timeout(PATIENCE, answer(stream, &*served.upgrade()?)).await.ok()?.ok() });
        }
    });
}

/// Answers one server, which asks once.
async fn answer(mut stream: TcpStream, cluster: &Cluster) -> anyhow::Result<()> {
    while let Some(bind) = ldap::read(&mut stream).await? {
        let verdict = cluster.verify(&bind.name, &bind.password);
        ldap::answer(&mut stream, &bind, verdict).await?;
    }
    Ok(())
}

impl Cluster {
    /// True when `token` is good for the user at one of the instance's endpoints. `name` is `<instance>/<user>`.
    fn verify(&self, name: &str, token: &str) -> bool {
        let (instance, username) = name.split_once('/').unwrap_or_default();
        let own = self.instances(&self.state()).into_iter().find(|known| known.name == instance).map(|known| known.endpoint);
        let endpoints: Vec<String> = own.into_iter().chain([self.cluster_endpoint(), self.reader_endpoint()]).collect();
        let mut logins = self.logins();
        let identities = logins.allowed.iter().filter(|(_, allowed)| allowed == username).map(|(identity, _)| identity);
        match token::verify(token, username, &endpoints, identities, Timestamp::now()) {
            Ok(()) => true,
            Err(why) => {
                logins.refused.push(format!("{name}: {why:#}"));
                false
            }
        }
    }
}
