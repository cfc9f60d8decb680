//! The Kubernetes cluster, with the kubeconfig and the rights of who runs the command.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// Which cluster and namespace, as kubectl takes it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct Access {
    /// The namespace; by default that of the context
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig; by default the current one
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig file; by default as kubectl finds it ($KUBECONFIG, ~/.kube/config)
    #[arg(long, global = true)]
    kubeconfig: Option<PathBuf>,
}

/// A client and the namespace that it works in.
#[derive(Clone)]
pub struct Cluster {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
}

impl Access {
    /// Reads the kubeconfig. Nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// There is no kubeconfig, it has no such context, or it cannot be used.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let configuration = match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("read {}", path.display()))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await?
            }
            None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
            // As kubectl: inside a pod without a kubeconfig the pod's own account.
            None => Config::infer().await.context("find a kubeconfig ($KUBECONFIG, ~/.kube/config), or the account of a pod")?,
        };
        let namespace = self.namespace.clone().unwrap_or_else(|| configuration.default_namespace.clone());
        Ok(Cluster { client: Client::try_from(configuration)?, namespace })
    }
}

impl Cluster {
    /// The objects of a kind in the namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Who the API server takes us for.
    ///
    /// # Errors
    /// The API server does not say.
    pub async fn user(&self) -> anyhow::Result<String> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = review.status.and_then(|status| status.user_info?.username);
        user.context("the API server did not say who you are")
    }
}

/// What a failed call means, for people.
pub fn explain(error: kube::Error, what: &str) -> anyhow::Error {
    let hint = match &error {
        kube::Error::Api(status) if status.code == 404 && status.details.as_ref().is_none_or(|details| details.name.is_empty()) => {
            "the cluster does not know that kind: is durable-write installed there?"
        }
        kube::Error::Api(status) if status.code == 403 => {
            "ask whoever runs the cluster for the roles that it takes in this namespace (to run drills: drill-runner of durable-write, to read \
             pipelines and evidence: view)"
        }
        _ => "",
    };
    let message = match &error {
        kube::Error::Api(status) => status.message.clone(),
        _ => return anyhow::Error::new(error).context(what.to_owned()),
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    anyhow::anyhow!("{what}: {message}{hint}")
}
