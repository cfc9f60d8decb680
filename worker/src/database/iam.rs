//! The token by which IAM database authentication knows a user: a request to `rds-db` that is signed and never sent. It serves as the password
//! of one user at one endpoint, and is made without a call to AWS.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use durable_write_crds::conditions::reasons;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::tls::Endpoint;
use crate::aws::describe;
use crate::problem::Problem;

/// How long a token can be used: the most that Aurora takes, as in every AWS SDK.
const VALIDITY: Duration = Duration::from_secs(900);
/// What RFC 3986 leaves as it is: the same encoding as of the request that is signed.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The parameter that the others are signed by. It stands last, as with botocore.
const SIGNATURE: &str = "X-Amz-Signature";

/// The token of `username` at `endpoint`, which must be the one that is connected to. It is a secret for as long as it can be used.
///
/// # Errors
/// The endpoint's host is no host of a URL.
pub fn token(endpoint: &Endpoint, username: &str, region: &str, credentials: &Credentials, now: SystemTime) -> Result<String, Problem> {
    let unsigned = format!("{endpoint}/?Action=connect&DBUser={}", utf8_percent_encode(username, ENCODED));
    let parameters = sign_query(&format!("https://{unsigned}"), region, credentials, now).map_err(|error| {
        let message = format!("a token for {endpoint} could not be signed: {}", describe(&*error));
        Problem::new(reasons::AUTHENTICATION_FAILED, "database.credentials.iam", message)
    })?;
    let (signature, others): (Vec<_>, Vec<_>) = parameters.iter().partition(|(name, _)| *name == SIGNATURE);
    let encoded = others.into_iter().chain(signature).map(|(name, value)| format!("&{name}={}", utf8_percent_encode(value, ENCODED)));
    Ok(unsigned + &encoded.collect::<String>())
}

/// What a signature adds to the query of a GET.
fn sign_query(
    url: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>, Box<dyn std::error::Error + Send + Sync>> {
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(VALIDITY);
    settings.signature_location = SignatureLocation::QueryParams;
    let identity = credentials.clone().into();
    let parameters = SigningParams::builder().identity(&identity).region(region).name("rds-db").time(now).settings(settings).build()?;
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &parameters.into())?.into_parts();
    Ok(instructions.params().iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect())
}

/// What somebody must see to when Aurora refuses a login by IAM. `said` is what the server said.
pub(super) fn refused(username: &str, code: &str, said: &str) -> Problem {
    let message = format!(
        "{said} (SQLSTATE {code}): the cluster must have IAM database authentication enabled, the user {username} the role rds_iam \
         (`durable-write-worker schema` prints the statement), and the workers' AWS identity the right rds-db:connect as {username} \
         (`durable-write-worker check` prints the policy); it is tried again by itself"
    );
    Problem::new(reasons::AUTHENTICATION_FAILED, "database.credentials.iam", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore makes.
    const BOTOCORE: &str = include_str!("iam/botocore.txt");
    const SESSION: &str = "IQoJb3JpZ2luX2Vj//8aCWV1LXdlc3QtMSJ+/token==";

    fn now() -> SystemTime {
        "2026-11-23T12:00:00Z".parse::<jiff::Timestamp>().unwrap().into()
    }

    fn made(host: &str, username: &str, session: Option<&str>) -> String {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = Credentials::new("AKIDEXAMPLE", secret, session.map(str::to_owned), None, "test");
        token(&Endpoint { host: host.to_owned(), port: 5432 }, username, "eu-west-1", &credentials, now()).unwrap()
    }

    #[test]
    fn a_token_is_what_botocore_makes_with_and_without_a_session() {
        let expected: Vec<&str> = BOTOCORE.lines().filter(|line| !line.starts_with('#')).collect();
        let made = [
            made("orders-1.abc.eu-west-1.rds.amazonaws.com", "orders", None),
            made("orders.cluster-abc.eu-west-1.rds.amazonaws.com", "or.de@rs$", Some(SESSION)),
        ];
        assert_eq!(made.as_slice(), expected.as_slice());
    }

    #[test]
    fn each_endpoint_has_a_token_of_its_own() {
        let signature = |host| made(host, "orders", None).rsplit_once('=').unwrap().1.to_owned();
        assert_ne!(signature("orders-1"), signature("orders-2"));
    }

    #[test]
    fn a_host_that_cannot_be_signed_for_is_told_without_any_secret() {
        let credentials = Credentials::new("AKIDEXAMPLE", "tiger", Some("lion".to_owned()), None, "test");
        let endpoint = Endpoint { host: "not a host".to_owned(), port: 5432 };
        let problem = token(&endpoint, "orders", "eu-west-1", &credentials, now()).unwrap_err();
        assert!(problem.message.contains("not a host:5432"), "{problem}");
        assert!(!problem.message.contains("tiger") && !problem.message.contains("lion"), "{problem}");
    }

    #[test]
    fn a_refused_login_names_everything_that_may_be_missing() {
        let problem = refused("orders", "28000", "PAM authentication failed for user \"orders\"");
        assert_eq!((problem.reason, problem.field.as_str()), (reasons::AUTHENTICATION_FAILED, "database.credentials.iam"));
        for words in ["PAM authentication failed", "28000", "rds_iam", "rds-db:connect as orders", "IAM database authentication enabled"] {
            assert!(problem.message.contains(words), "{problem}");
        }
    }
}
