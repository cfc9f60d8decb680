//! The one way to a connection of a pipeline, for worker, probe and check: who it logs in as, whom it trusts, and how long it may take.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::{Database, IamCredentials};
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use super::failure::failure;
use super::iam;
use super::tls::{Credentials, Endpoint, connect_options};
use crate::aws::Identity;
use crate::manifest::{Mounts, Servers};
use crate::problem::Problem;
use crate::sink::{Class, WriteError};

/// A server that has not let worker or check in by then is taken for unreachable.
pub(crate) const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The database of a pipeline, and where what leads to it is read.
#[derive(Clone, Debug)]
pub struct Access {
    pipeline: String,
    database: Database,
    mounts: Mounts,
    /// Only for logins by IAM.
    identity: Option<Identity>,
}

impl Access {
    /// The database of the pipeline of this name. For logins by IAM the AWS identity is kept from now on; so one `Access` serves all of a process.
    #[must_use]
    pub fn new(pipeline: &str, database: &Database, mounts: &Mounts, aws: &SdkConfig) -> Self {
        let identity = database.credentials.iam.as_ref().map(|_| Identity::keep(aws));
        Self { pipeline: pipeline.to_owned(), database: database.clone(), mounts: mounts.clone(), identity }
    }

    /// Where the servers are now.
    ///
    /// # Errors
    /// As [`Mounts::servers`].
    pub(crate) fn servers(&self) -> Result<Servers, Problem> {
        self.mounts.servers(&self.database)
    }

    /// Who connections log in as, as it is now.
    ///
    /// # Errors
    /// The Secret or one of its keys is missing.
    pub(crate) fn login(&self) -> Result<Login, Problem> {
        match (&self.database.credentials.secret_ref, &self.database.credentials.iam, &self.identity) {
            (Some(secret), None, _) => Ok(Login::Password(self.mounts.credentials(secret)?)),
            (None, Some(IamCredentials { username }), Some(identity)) => {
                Ok(Login::Iam { username: username.clone(), identity: identity.clone() })
            }
            _ => Err(Problem::new(reasons::INVALID_SPEC, "database.credentials", "exactly one of secretRef and iam must be set")),
        }
    }

    /// Whom connections trust, as it is now.
    ///
    /// # Errors
    /// As [`Mounts::authorities`].
    pub(crate) fn authorities(&self) -> Result<Cow<'static, [u8]>, Problem> {
        self.mounts.authorities(&self.database.tls)
    }

    /// All that leads to a connection, read anew, as it may have been rotated.
    ///
    /// # Errors
    /// As [`Access::login`] and [`Access::authorities`].
    pub(crate) fn connector(&self) -> Result<Connector, Problem> {
        Ok(self.connector_as(self.login()?, self.authorities()?))
    }

    /// The same with what was read before, or for somebody else.
    pub(crate) fn connector_as(&self, login: Login, authorities: Cow<'static, [u8]>) -> Connector {
        Connector { pipeline: self.pipeline.clone(), database: self.database.clone(), login, authorities }
    }
}

/// Who a connection logs in as. Its debug form shows no secret.
#[derive(Clone, Debug)]
pub(crate) enum Login {
    /// A user with a password.
    Password(Credentials),
    /// A user with a token that the AWS identity signs anew for each connection.
    Iam { username: String, identity: Identity },
}

impl Login {
    /// The user's name.
    pub(crate) fn username(&self) -> &str {
        match self {
            Self::Password(Credentials { username, .. }) | Self::Iam { username, .. } => username,
        }
    }

    /// What proves to `endpoint` that it is this user.
    async fn credentials(&self, endpoint: &Endpoint) -> Result<Credentials, Problem> {
        match self {
            Self::Password(credentials) => Ok(credentials.clone()),
            Self::Iam { username, identity } => {
                let token = iam::token(endpoint, username, identity.region()?, &identity.credentials().await?, SystemTime::now())?;
                Ok(Credentials { username: username.clone(), password: token })
            }
        }
    }

    /// What it means that a connection could not be opened.
    fn failure(&self, error: &sqlx::Error) -> WriteError {
        let failure = failure(error);
        match (self, failure.class, failure.sqlstate.as_deref()) {
            (Self::Iam { username, identity }, Class::Authentication, Some(code)) => {
                // The role may be another by now.
                identity.refused();
                let said = error.as_database_error().map_or("", |error| error.message());
                WriteError { problem: iam::refused(username, code, said), ..failure }
            }
            _ => failure,
        }
    }
}

/// All that leads to a connection, except the server.
#[derive(Clone)]
pub(crate) struct Connector {
    pipeline: String,
    database: Database,
    login: Login,
    authorities: Cow<'static, [u8]>,
}

impl Connector {
    /// Opens a connection, unless that takes longer than `limit`.
    ///
    /// # Errors
    /// There is no AWS identity for a login by IAM; the server does not answer in time, or refuses.
    pub(crate) async fn open(&self, endpoint: &Endpoint, limit: Duration) -> Result<PgConnection, WriteError> {
        let opening = async {
            let credentials = self.login.credentials(endpoint).await.map_err(WriteError::unreached)?;
            let options = connect_options(&self.pipeline, &self.database, endpoint, &credentials, &self.authorities);
            options.connect().await.map_err(|error| self.login.failure(&error))
        };
        timeout(limit, opening).await.unwrap_or_else(|_| {
            let message = format!(
                "{endpoint} does not answer within {} s: look at the address, security groups and network policies",
                limit.as_secs()
            );
            Err(WriteError::unreached(Problem::new(reasons::DATABASE_OUTAGE, "database", message)))
        })
    }
}
