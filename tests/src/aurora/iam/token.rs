//! Whether a token is good, by AWS's documentation of Signature Version 4 alone: nothing here is shared with what makes tokens.

use anyhow::{Context, ensure};
use hmac::{Hmac, KeyInit, Mac};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use crate::aurora::cluster::REGION;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SIGNATURE: &str = "X-Amz-Signature";
/// How long a token may be good, in seconds.
const LONGEST: i64 = 900;
/// By how much clocks may differ.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// An AWS identity: what a pod gets for its role.
#[derive(Clone)]
pub struct AwsIdentity {
    /// Tells which identity has signed.
    pub access_key_id: String,
    /// What is signed with.
    pub secret_access_key: String,
    /// Stands in what is signed by temporary credentials.
    pub session_token: Option<String>,
}

/// Says what is wrong with a token that `username` gives at a server of these `endpoints`, when one of `identities` may be that user.
pub(super) fn verify<'a>(
    token: &str,
    username: &str,
    endpoints: &[String],
    mut identities: impl Iterator<Item = &'a AwsIdentity>,
    now: Timestamp,
) -> anyhow::Result<()> {
    let (host, query) = token.split_once("/?").context("no token")?;
    let value = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    ensure!(endpoints.iter().any(|endpoint| endpoint == host), "it is for {host}, not for one of {}", endpoints.join(", "));
    ensure!(value("Action").as_deref() == Some("connect") && value("DBUser").as_deref() == Some(username), "it is for another user");
    ensure!(value("X-Amz-Algorithm").as_deref() == Some(ALGORITHM), "it is signed in another way");
    ensure!(value("X-Amz-SignedHeaders").as_deref() == Some("host"), "other headers are signed");

    let written = value("X-Amz-Date").context("it has no time")?;
    let date = DateTime::strptime("%Y%m%dT%H%M%SZ", &written)?.to_zoned(TimeZone::UTC)?.timestamp();
    let expires: i64 = value("X-Amz-Expires").context("it has no end")?.parse()?;
    ensure!((1..=LONGEST).contains(&expires), "it is to last for {expires} s");
    ensure!(date <= now + SKEW && now < date + SignedDuration::from_secs(expires), "it is of {date}, and it is {now}");

    let credential = value("X-Amz-Credential").context("nobody has signed it")?;
    let (key, scope) = credential.split_once('/').context("it is signed for nothing")?;
    let day = written.get(..8).unwrap_or_default();
    ensure!(scope == format!("{day}/{REGION}/rds-db/aws4_request"), "it is signed for {scope}");
    let identity = identities.find(|identity| identity.access_key_id == key).with_context(|| format!("{key} may not be this user"))?;
    ensure!(value("X-Amz-Security-Token") == identity.session_token, "the session is another");

    let signature = sign(identity, host, query, &written, scope, day)?;
    ensure!(value(SIGNATURE).is_some_and(|given| given == signature), "the signature does not fit");
    Ok(())
}

/// The signature of a GET of `host` with `query`.
fn sign(identity: &AwsIdentity, host: &str, query: &str, written: &str, scope: &str, day: &str) -> anyhow::Result<String> {
    let mut parameters: Vec<&str> = query.split('&').filter(|parameter| !parameter.starts_with(SIGNATURE)).collect();
    parameters.sort_unstable();
    let canonical = format!("GET\n/\n{}\nhost:{host}\n\nhost\n{}", parameters.join("&"), hex(&Sha256::digest(b"")));
    let to_sign = format!("{ALGORITHM}\n{written}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{}", identity.secret_access_key).into_bytes();
    for part in [day, REGION, "rds-db", "aws4_request"] {
        key = hmac(&key, part)?;
    }
    Ok(hex(&hmac(&key, &to_sign)?))
}

fn hmac(key: &[u8], text: &str) -> anyhow::Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).context("a key of HMAC")?;
    mac.update(text.as_bytes());
    Ok(mac.finalize().into_bytes().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
