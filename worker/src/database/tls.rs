//! How connections to the database are opened: to which server, as whom, and whose certificates are trusted.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use durable_write_crds::conditions::reasons;
use durable_write_crds::pipeline::{Database, TlsMode};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use crate::problem::Problem;

/// The authorities of RDS and of RDS Proxy, PEM encoded; the file says where they are from.
const RDS_AUTHORITIES: &str = include_str!("../../certificates/rds-global-bundle.pem");

/// Prepared statements that a connection keeps: the worker has one, and it changes when the table does.
const STATEMENTS: usize = 8;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl FromStr for Endpoint {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() => Ok(Self { host: host.to_owned(), port }),
            _ => Err(Problem::new(reasons::INVALID_SPEC, "database", format!("{text:?} is no host:port with a port up to 65535"))),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Who the worker is to the database. Its debug form does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: String,
    /// The password; or the token that serves as one.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// How a connection is opened. The result's debug form shows the password: never log it.
///
/// `authorities` are those of the manifest, or [`default_authorities`]: they are all that is trusted, except that sqlx adds the platform's own
/// where there are some (`SSL_CERT_FILE`, `SSL_CERT_DIR`, `/etc/ssl`). Pods have `SSL_CERT_FILE=/dev/null` for that.
#[must_use]
pub(super) fn connect_options(
    pipeline: &str,
    database: &Database,
    endpoint: &Endpoint,
    credentials: &Credentials,
    authorities: &[u8],
) -> PgConnectOptions {
    let mode = match database.tls.mode {
        TlsMode::VerifyFull => PgSslMode::VerifyFull,
        TlsMode::VerifyCa => PgSslMode::VerifyCa,
    };
    PgConnectOptions::new_without_pgpass()
        .host(&endpoint.host)
        .port(endpoint.port)
        .database(&database.name)
        .username(&credentials.username)
        .password(&credentials.password)
        .ssl_mode(mode)
        .ssl_root_cert_from_pem(authorities.to_vec())
        .application_name(&format!("durable-write/{pipeline}"))
        .statement_cache_capacity(STATEMENTS)
        // A proxy refuses settings that it does not know.
        .extra_float_digits(None)
        .disable_statement_logging()
}

/// Whom the worker trusts by default: the public authorities (Mozilla's) and those of RDS, PEM encoded.
pub fn default_authorities() -> &'static str {
    static AUTHORITIES: LazyLock<String> = LazyLock::new(|| public_authorities() + RDS_AUTHORITIES);
    &AUTHORITIES
}

/// The public authorities (Mozilla's), PEM encoded.
#[must_use]
pub fn public_authorities() -> String {
    let certificates = TLS_SERVER_ROOT_CERTS.iter().map(|certificate| pem::Pem::new("CERTIFICATE", certificate.as_ref()));
    pem::encode_many(&certificates.collect::<Vec<_>>())
}

/// What is wrong with the server's certificate, when it is that which the connection failed on.
#[must_use]
pub fn problem(error: &sqlx::Error) -> Option<Problem> {
    let said = match error {
        sqlx::Error::Tls(error) => error.to_string(),
        sqlx::Error::Io(error) => error.get_ref()?.downcast_ref::<rustls::Error>()?.to_string(),
        _ => return None,
    };
    let advice = match error {
        _ if said.contains("UnknownIssuer") || said.contains("BadSignature") => {
            "no authority that is trusted issued the server's certificate: put the right one into a ConfigMap and name it in database.tls.ca"
        }
        _ if said.contains("not valid for name") || said.contains("NotValidForName") => {
            "the server's certificate is for another name: connect by that name, or set database.tls.mode to VerifyCa"
        }
        _ if said.contains("expired") || said.contains("Expired") => "the server's certificate, or its authority's, has expired: renew it",
        _ if said.contains("does not support TLS") => "switch it on at the server (ssl = on)",
        _ => "correct the server's certificate, or database.tls",
    };
    Some(Problem::new(reasons::TLS_FAILED, "database.tls", format!("{said}: {advice}")))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use durable_write_crds::pipeline::{Credentials as CredentialsOfSpec, Tls};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    fn bundle() -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(RDS_AUTHORITIES.as_bytes()).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn the_bundle_has_todays_authorities_of_rds_and_none_that_has_expired() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let mut names = Vec::new();
        for der in bundle() {
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            assert!(u64::try_from(certificate.validity().not_after.timestamp()).unwrap() > now, "{} has expired", certificate.subject());
            names.push(certificate.subject().iter_common_name().next().map_or("", |name| name.as_str().unwrap()).to_owned());
        }
        for region in ["eu-west-1", "us-east-1"] {
            for kind in ["RSA2048", "RSA4096", "ECC384"] {
                let name = format!("Amazon RDS {region} Root CA {kind} G1");
                assert!(names.contains(&name), "{name} is missing");
            }
        }
        assert!(names.contains(&"Amazon Root CA 1".to_owned()), "RDS Proxy presents certificates of ACM");
    }

    #[test]
    fn all_default_authorities_can_be_used_as_anchors() {
        let mut store = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(default_authorities().as_bytes()) {
            store.add(certificate.unwrap()).unwrap();
        }
        assert_eq!(store.len(), bundle().len() + TLS_SERVER_ROOT_CERTS.len());
    }

    #[test]
    fn the_password_is_not_shown() {
        let credentials = Credentials { username: "worker".into(), password: "tiger".into() };
        assert_eq!(format!("{credentials:?}"), r#"Credentials { username: "worker", .. }"#);
    }

    #[test]
    fn options_verify_the_server_and_name_the_pipeline() {
        let database = Database {
            aurora: None,
            postgres: None,
            name: "shop".into(),
            credentials: CredentialsOfSpec { secret_ref: None, iam: None },
            tls: Tls::default(),
        };
        let credentials = Credentials { username: "worker".into(), password: "tiger".into() };
        let options = connect_options("orders", &database, &"db.example:5433".parse().unwrap(), &credentials, b"");
        assert_eq!((options.get_host(), options.get_port(), options.get_database()), ("db.example", 5433, Some("shop")));
        assert_eq!(options.get_application_name(), Some("durable-write/orders"));
        assert!(matches!(options.get_ssl_mode(), PgSslMode::VerifyFull));
    }

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        assert_eq!("db:5432".parse::<Endpoint>().unwrap().to_string(), "db:5432");
        for text in ["db", "db:", ":5432", "db:70000", "db:x"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
