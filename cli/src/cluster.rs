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
#[command(next_help_heading = "Cluster, for drill, status and traffic")]
pub struct Access {
    /// The namespace; by default that of the context
    #[arg(short, long, global = true, value_parser = name)]
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

    /// Who the API server takes us for; none when it does not say.
    ///
    /// # Errors
    /// It cannot be asked.
    pub async fn user(&self) -> anyhow::Result<Option<String>> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await {
            Ok(review) => Ok(review.status.and_then(|status| status.user_info?.username)),
            Err(kube::Error::Api(_)) => Ok(None),
            Err(error) => Err(explain(error, "ask who you are")),
        }
    }
}

/// A name as Kubernetes has them. It becomes part of an address as it is, and other characters would make it another address.
///
/// # Errors
/// It is none.
pub fn name(text: &str) -> Result<String, String> {
    let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || matches!(character, '-' | '.');
    let outer = |character: Option<char>| character.is_some_and(|character| character.is_ascii_alphanumeric());
    if text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last()) {
        return Ok(text.to_owned());
    }
    Err("names have lower-case letters, digits, - and . only, and begin and end with a letter or digit".to_owned())
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
        kube::Error::Service(_) | kube::Error::HyperError(_) => {
            let what = format!("{what}: the API server cannot be reached; look at the kubeconfig and its context");
            return anyhow::Error::new(error).context(what);
        }
        _ => return anyhow::Error::new(error).context(what.to_owned()),
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; {hint}") };
    anyhow::anyhow!("{what}: {message}{hint}")
}

/// An error with its causes, each said once: many errors repeat their cause in their own text.
#[must_use]
pub fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.as_str() {
        "" => cause,
        _ if told.contains(&cause) => told,
        _ => format!("{told}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn what_would_be_another_address_is_no_name() {
        assert!(["orders", "orders-1", "1.a"].into_iter().all(|text| name(text).is_ok()));
        let other = ["", "a/b", "..", "../x", "a?b", "a b", "Orders", "-a", "a-", "é", "a%2fb", "a\n"];
        assert!(other.into_iter().all(|text| name(text).is_err()));
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("refused").context("connect: refused").context("list drills");
        assert_eq!(told(&error), "list drills: connect: refused");
    }
}
