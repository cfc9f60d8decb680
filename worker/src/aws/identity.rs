//! The AWS identity of this process, for what is signed without a call to AWS. A task of its own keeps the credentials, so that a provider that
//! hangs holds up nobody while there are good ones, and so that attempts each 100 ms cost the provider nothing.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::{describe, no_credentials, no_region};
use crate::problem::Problem;

/// A provider that has not answered by then has failed, as in the SDK.
const LOAD: Duration = Duration::from_secs(5);
/// How long the first answer of a provider is waited for: less than an attempt to connect may take, so that it says why it fails.
const FIRST: Duration = Duration::from_millis(1500);
/// Credentials are loaded anew so long before they end.
const BEFORE_END: Duration = Duration::from_secs(300);
/// Credentials without an end are loaded anew so often: a file of them may have been changed.
const WITHOUT_END: Duration = Duration::from_secs(900);
/// A provider is not asked more often, except after it has failed.
const AGAIN: Duration = Duration::from_secs(5);
/// After it has failed.
const RETRY: Duration = Duration::from_secs(1);

/// The field of the manifest that needs the identity.
const FIELD: &str = "database.credentials.iam";

/// The AWS identity of this process. Its debug form shows no credentials.
#[derive(Clone)]
pub struct Identity {
    region: Option<String>,
    known: watch::Receiver<Option<Known>>,
    refused: Arc<Notify>,
}

/// The credentials, or why there are none.
type Known = Result<Credentials, Problem>;

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Identity {
    /// Begins to keep the credentials of `configuration`. It ends with the last clone of what is returned.
    #[must_use]
    pub fn keep(configuration: &SdkConfig) -> Self {
        let (send, known) = watch::channel(None);
        let refused = Arc::new(Notify::new());
        match configuration.credentials_provider() {
            Some(provider) => drop(tokio::spawn(keep(provider, send, refused.clone()))),
            None => drop(send.send_replace(Some(Err(no_credentials(FIELD, "they are switched off"))))),
        }
        Self { region: configuration.region().map(ToString::to_string), known, refused }
    }

    /// The region of the environment.
    ///
    /// # Errors
    /// None is set.
    pub fn region(&self) -> Result<&str, Problem> {
        self.region.as_deref().ok_or_else(|| no_region(FIELD))
    }

    /// The credentials, at once unless the provider has never answered yet.
    ///
    /// # Errors
    /// The provider has none, or does not answer.
    pub async fn credentials(&self) -> Result<Credentials, Problem> {
        let mut known = self.known.clone();
        match timeout(FIRST, known.wait_for(Option::is_some)).await {
            Ok(Ok(known)) => known.clone().unwrap_or_else(|| Err(silent())),
            _ => Err(silent()),
        }
    }

    /// Says that the credentials were refused: they are loaded anew, soon.
    pub fn refused(&self) {
        self.refused.notify_one();
    }
}

fn silent() -> Problem {
    no_credentials(FIELD, "their provider does not answer")
}

/// Loads credentials again and again, until nobody wants them any more.
async fn keep(provider: SharedCredentialsProvider, known: watch::Sender<Option<Known>>, refused: Arc<Notify>) {
    let mut end = None;
    loop {
        let loaded = match timeout(LOAD, provider.provide_credentials()).await {
            Ok(loaded) => loaded.map_err(|error| no_credentials(FIELD, &describe(&error))),
            Err(_) => Err(silent()),
        };
        let now = Instant::now();
        let failed = loaded.is_err();
        if let Ok(credentials) = &loaded {
            end = credentials.expiry().map(|end| now + end.duration_since(SystemTime::now()).unwrap_or_default());
        }
        known.send_if_modified(|known| replace(known, loaded, end.is_none_or(|end| now < end)));
        let again = next(now, failed, end);
        tokio::select! {
            () = sleep_until(again) => {}
            () = async { refused.notified().await; sleep_until(now + AGAIN).await } => {}
            () = known.closed() => return,
        }
    }
}

/// Takes in what was loaded. A failure counts only when what is known is no longer good.
fn replace(known: &mut Option<Known>, loaded: Known, good: bool) -> bool {
    if loaded.is_err() && good && matches!(known, Some(Ok(_))) {
        return false;
    }
    *known = Some(loaded);
    true
}

/// When the provider is asked again.
fn next(now: Instant, failed: bool, end: Option<Instant>) -> Instant {
    match end {
        _ if failed => now + RETRY,
        None => now + WITHOUT_END,
        Some(end) => (now + AGAIN).max(end.checked_sub(BEFORE_END).unwrap_or(now)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_config::Region;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use durable_write_crds::conditions::reasons;
    use tokio::time::sleep;

    use super::*;

    /// A provider that does for its n-th caller what a test says.
    struct Provider<F>(Arc<AtomicUsize>, F);

    impl<F> fmt::Debug for Provider<F> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Provider")
        }
    }

    /// What a provider does.
    enum Does {
        Gives(Credentials),
        Fails,
        Hangs,
    }

    impl<F: Fn(usize) -> Does + Send + Sync> ProvideCredentials for Provider<F> {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            match self.1(self.0.fetch_add(1, Ordering::Relaxed) + 1) {
                Does::Gives(credentials) => future::ProvideCredentials::ready(Ok(credentials)),
                Does::Fails => future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("nobody is here"))),
                Does::Hangs => future::ProvideCredentials::new(std::future::pending()),
            }
        }
    }

    /// An identity over a provider, and how often that was asked.
    fn identity(does: impl Fn(usize) -> Does + Send + Sync + 'static) -> (Identity, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let provider = SharedCredentialsProvider::new(Provider(asked.clone(), does));
        let configuration = SdkConfig::builder().region(Region::new("eu-west-1")).credentials_provider(provider).build();
        (Identity::keep(&configuration), asked)
    }

    fn key(name: &str, lasts: Option<u64>) -> Credentials {
        Credentials::new(
            name,
            "secret",
            Some("session".to_owned()),
            lasts.map(|lasts| SystemTime::now() + Duration::from_secs(lasts)),
            "test",
        )
    }

    async fn key_of(identity: &Identity) -> String {
        identity.credentials().await.unwrap().access_key_id().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_ask_the_provider_is_asked_once() {
        let (identity, asked) = identity(|_| Does::Gives(key("first", Some(3600))));
        let begun = Instant::now();
        for _ in 0..1000 {
            assert_eq!(key_of(&identity).await, "first");
        }
        assert_eq!((asked.load(Ordering::Relaxed), begun.elapsed()), (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_loaded_anew_before_they_end_and_a_provider_that_hangs_then_holds_nobody_up() {
        let (identity, _) = identity(|asked| match asked {
            1 => Does::Gives(key("first", Some(3600))),
            2 => Does::Hangs,
            3 => Does::Fails,
            _ => Does::Gives(key("second", Some(3600))),
        });
        assert_eq!(key_of(&identity).await, "first");
        sleep(Duration::from_secs(3301)).await;
        let begun = Instant::now();
        assert_eq!((key_of(&identity).await.as_str(), begun.elapsed()), ("first", Duration::ZERO));
        sleep(LOAD).await;
        assert_eq!(key_of(&identity).await, "first", "the provider has failed, and these are still good");
        sleep(2 * RETRY).await;
        assert_eq!(key_of(&identity).await, "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_hangs_from_the_start_is_told_within_an_attempt_to_connect() {
        let (identity, _) = identity(|asked| if asked == 1 { Does::Hangs } else { Does::Gives(key("second", None)) });
        let begun = Instant::now();
        let problem = identity.credentials().await.unwrap_err();
        assert_eq!((problem.reason, problem.field.as_str(), begun.elapsed()), (reasons::NO_AWS_CREDENTIALS, FIELD, FIRST));
        assert!(problem.message.contains("does not answer") && problem.message.contains("Pod Identity"), "{problem}");
        sleep(LOAD + RETRY).await;
        assert_eq!(key_of(&identity).await, "second");
    }

    #[tokio::test(start_paused = true)]
    async fn why_there_is_no_identity_is_said_until_there_is_one_and_again_when_it_has_ended() {
        let (identity, _) = identity(|asked| if (3..5).contains(&asked) { Does::Gives(key("late", Some(20))) } else { Does::Fails });
        assert!(identity.credentials().await.unwrap_err().message.contains("nobody is here"));
        sleep(3 * RETRY).await;
        assert_eq!(key_of(&identity).await, "late");
        sleep(Duration::from_secs(60)).await;
        assert!(identity.credentials().await.unwrap_err().message.contains("nobody is here"));
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_were_refused_are_loaded_anew_but_not_for_each_refusal() {
        let (identity, asked) = identity(|asked| Does::Gives(key(if asked == 1 { "first" } else { "second" }, Some(36_000))));
        assert_eq!(key_of(&identity).await, "first");
        for _ in 0..100 {
            identity.refused();
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(key_of(&identity).await, "second");
        assert!(asked.load(Ordering::Relaxed) <= 4, "asked {asked:?} times in 10 s");
    }

    #[tokio::test]
    async fn without_a_region_or_a_provider_it_is_said_what_to_set() {
        let identity = Identity::keep(&SdkConfig::builder().build());
        let problem = identity.region().unwrap_err();
        assert_eq!((problem.reason, problem.field.as_str()), (reasons::NO_AWS_REGION, FIELD));
        assert!(problem.message.contains("AWS_REGION"));
        assert_eq!(identity.credentials().await.unwrap_err().reason, reasons::NO_AWS_CREDENTIALS);
    }

    #[tokio::test]
    async fn the_debug_form_shows_no_credentials() {
        let (identity, _) = identity(|_| Does::Gives(key("first", None)));
        key_of(&identity).await;
        assert_eq!(format!("{identity:?}"), r#"Identity { region: Some("eu-west-1"), .. }"#);
    }
}
