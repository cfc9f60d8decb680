//! The AWS SDK as the worker uses it: settings from the usual environment, HTTPS by rustls with ring, the public roots built in.

mod identity;

use aws_config::{BehaviorVersion, SdkConfig, stalled_stream_protection::StalledStreamProtectionConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use durable_write_crds::conditions::reasons;

pub use identity::Identity;

use crate::problem::Problem;

/// The settings of the environment: region, credentials, `AWS_ENDPOINT_URL` and its friends.
///
/// # Errors
/// The HTTPS client could not be built.
pub async fn configuration() -> anyhow::Result<SdkConfig> {
    Ok(aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https_client()?)
        // A long poll is a stalled stream.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await)
}

/// A client of SQS.
#[must_use]
pub fn sqs_client(configuration: &SdkConfig) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(configuration)
}

/// The public roots come with the program: those of the platform are not read.
fn https_client() -> anyhow::Result<SharedHttpClient> {
    let trust = TrustStore::empty().with_pem_certificate(crate::database::tls::public_authorities());
    let context = TlsContext::builder().with_trust_store(trust).build()?;
    Ok(Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// No identity to be had, as the SDK says it; `field` needs one.
pub(crate) fn no_credentials(field: &str, said: &str) -> Problem {
    let message = format!(
        "no AWS credentials were found ({said}): give the workers' ServiceAccount a role (EKS Pod Identity or IRSA), or set workers.env of \
         the chart; pods made before the role must be made again"
    );
    Problem::new(reasons::NO_AWS_CREDENTIALS, field, message)
}

/// No region is set; `field` needs one.
pub(crate) fn no_region(field: &str) -> Problem {
    Problem::new(reasons::NO_AWS_REGION, field, "no AWS region is set: set AWS_REGION (on pods it is the chart's aws.region)")
}

/// The whole chain of causes, in one line.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
