//! What a manifest refers to, read from files in the layout of the pods: credentials, authorities, the cluster's topology. Everything is
//! read anew each time, so that a rotated password or a new reader counts at once.

use std::borrow::Cow;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use durable_write_crds::conditions::reasons;
use durable_write_crds::layout;
use durable_write_crds::pipeline::{Database, SecretReference, Tls};
use durable_write_crds::wire::Topology;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::database::tls::{Credentials, Endpoint, default_authorities};
use crate::problem::Problem;

/// Where Secrets, ConfigMaps and the topology are found.
#[derive(Clone, Debug)]
pub struct Mounts {
    folder: PathBuf,
    topology: PathBuf,
}

/// Where the servers of a database are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// The endpoint that follows the writer.
    pub writer: Endpoint,
    /// Every server by itself.
    pub instances: Vec<Server>,
    /// The Aurora cluster's resource identifier, where it is known.
    pub resource_id: Option<String>,
}

/// One server of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, for people.
    pub name: String,
    /// Where it listens.
    pub endpoint: Endpoint,
}

impl Mounts {
    /// The layout below `folder`. `topology` is another place for the topology.
    #[must_use]
    pub fn new(folder: &Path, topology: Option<&Path>) -> Self {
        let topology = topology.map_or_else(|| folder.join(layout::TOPOLOGY), Path::to_owned);
        Self { folder: folder.to_owned(), topology }
    }

    /// User and password, as they are now.
    ///
    /// # Errors
    /// The Secret or one of its keys is missing.
    pub fn credentials(&self, secret: &SecretReference) -> Result<Credentials, Problem> {
        let [username, password] = layout::CREDENTIAL_KEYS.map(|key| self.secret_key(&secret.name, key));
        Ok(Credentials { username: username?, password: password? })
    }

    fn secret_key(&self, name: &str, key: &str) -> Result<String, Problem> {
        let path = layout::secret_key(&self.folder, name, key);
        let text = read(&path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        let missing = match text {
            Ok(text) if !text.is_empty() => return Ok(text),
            Ok(_) => format!("the key {key} of the Secret {name} is empty"),
            Err(error) => format!("the Secret {name} or its key {key} is missing ({}: {error})", path.display()),
        };
        let message = format!(
            "{missing}: run kubectl create secret generic {name} --from-literal=username=… --from-literal=password=…; without a cluster, put \
             it into that file below --mounts"
        );
        Err(Problem::new(reasons::CREDENTIALS_MISSING, "database.credentials.secretRef", message))
    }

    /// Whom connections trust, PEM encoded: the manifest's authorities alone, or else the default ones.
    ///
    /// # Errors
    /// The ConfigMap or its key is missing, or holds no certificates.
    pub fn authorities(&self, tls: &Tls) -> Result<Cow<'static, [u8]>, Problem> {
        let Some(authority) = &tls.ca else { return Ok(Cow::Borrowed(default_authorities().as_bytes())) };
        let reference = &authority.config_map_key_ref;
        let path = layout::config_map_key(&self.folder, &reference.name, &reference.key);
        let place = format!("the key {} of the ConfigMap {}", reference.key, reference.name);
        let problem = |message| Problem::new(reasons::TLS_FAILED, "database.tls.ca.configMapKeyRef", message);
        let text = read(&path).map_err(|error| {
            problem(format!("{place} is missing ({}: {error}): put the authority's certificates there, PEM encoded", path.display()))
        })?;
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        if certificates.is_ok_and(|certificates| !certificates.is_empty()) {
            Ok(Cow::Owned(text.into_bytes()))
        } else {
            Err(problem(format!("{place} holds no certificates: put the authority's there, PEM encoded (-----BEGIN CERTIFICATE-----)")))
        }
    }

    /// Where the servers are now: in the topology, or, without one, in the manifest of a PostgreSQL. The manifest that pods get has no
    /// instances, as those may change without a restart.
    ///
    /// # Errors
    /// There is no topology, or it or the manifest has an endpoint that is none.
    pub fn servers(&self, database: &Database) -> Result<Servers, Problem> {
        match &database.postgres {
            Some(postgres) if !self.topology.exists() => {
                let instance = |text: &String| Ok(Server { name: text.clone(), endpoint: text.parse()? });
                Ok(Servers {
                    writer: postgres.writer.parse()?,
                    instances: postgres.instances.iter().map(instance).collect::<Result<_, Problem>>()?,
                    resource_id: None,
                })
            }
            _ => self.topology(),
        }
    }

    fn topology(&self) -> Result<Servers, Problem> {
        let path = self.topology.display();
        let problem = |message| Problem::new(reasons::CLUSTER_NOT_FOUND, "database", message);
        let text = read(&self.topology).map_err(|error| {
            problem(format!(
                "where the cluster's instances are is not known ({path}: {error}): in Kubernetes the operator writes this file as soon as it \
                 finds the cluster; elsewhere give --topology FILE with `writer: host:port` and `instances: [{{name: …, endpoint: host:port}}]`"
            ))
        })?;
        let topology: Topology = serde_saphyr::from_str(&text).map_err(|error| {
            problem(format!("{path} is no topology: {error}: write `writer` and `instances` with `name` and `endpoint`"))
        })?;
        let instance =
            |instance: durable_write_crds::wire::TopologyInstance| Ok(Server { name: instance.name, endpoint: instance.endpoint.parse()? });
        Ok(Servers {
            writer: topology.writer.parse()?,
            instances: topology.instances.into_iter().map(instance).collect::<Result<_, Problem>>()?,
            resource_id: topology.resource_id,
        })
    }
}

fn read(path: &Path) -> Result<String, &'static str> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "not found",
        ErrorKind::PermissionDenied => "not readable for this user",
        ErrorKind::InvalidData => "not UTF-8",
        _ => "cannot be read",
    })
}

#[cfg(test)]
mod tests {
    use durable_write_crds::pipeline::{Aurora, CertificateAuthority, ConfigMapKeyReference, Credentials as InSpec, Postgres};

    use super::*;

    fn secret() -> SecretReference {
        SecretReference { name: "orders-db".into() }
    }

    fn write(folder: &Path, path: &str, text: &str) {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn database(aurora: bool) -> Database {
        let aurora = aurora.then(|| Aurora { cluster_identifier: "orders".into() });
        let postgres = Postgres { writer: "db:5432".into(), instances: vec!["db-1:5432".into()] };
        Database {
            postgres: aurora.is_none().then_some(postgres),
            aurora,
            name: "shop".into(),
            credentials: InSpec { secret_ref: Some(secret()), iam: None },
            tls: Tls::default(),
        }
    }

    #[test]
    fn credentials_are_read_anew_and_without_their_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = Mounts::new(folder.path(), None);
        write(folder.path(), "secrets/orders-db/username", "worker\n");
        write(folder.path(), "secrets/orders-db/password", "tiger \r\n");
        assert_eq!(mounts.credentials(&secret()).unwrap(), Credentials { username: "worker".into(), password: "tiger ".into() });
        write(folder.path(), "secrets/orders-db/password", "lion");
        assert_eq!(mounts.credentials(&secret()).unwrap().password, "lion");
    }

    #[test]
    fn a_missing_or_empty_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = Mounts::new(folder.path(), None);
        write(folder.path(), "secrets/orders-db/username", "worker");
        let problem = mounts.credentials(&secret()).unwrap_err();
        assert_eq!(problem.reason, reasons::CREDENTIALS_MISSING);
        assert!(problem.message.contains("the Secret orders-db or its key password is missing"), "{problem}");
        write(folder.path(), "secrets/orders-db/password", "\n");
        assert!(mounts.credentials(&secret()).unwrap_err().message.contains("the key password of the Secret orders-db is empty"));
    }

    #[test]
    fn authorities_of_the_manifest_stand_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mounts = Mounts::new(folder.path(), None);
        assert_eq!(mounts.authorities(&Tls::default()).unwrap(), default_authorities().as_bytes());

        let reference = ConfigMapKeyReference { name: "ca".into(), key: "ca.pem".into() };
        let tls = Tls { ca: Some(CertificateAuthority { config_map_key_ref: reference }), ..Tls::default() };
        assert!(mounts.authorities(&tls).unwrap_err().message.contains("the key ca.pem of the ConfigMap ca is missing"));
        write(folder.path(), "configmaps/ca/ca.pem", "nothing");
        assert!(mounts.authorities(&tls).unwrap_err().message.contains("holds no certificates"));
        let one = pem::encode(&pem::Pem::new("CERTIFICATE", webpki_root_certs::TLS_SERVER_ROOT_CERTS[0].as_ref()));
        write(folder.path(), "configmaps/ca/ca.pem", &one);
        assert_eq!(mounts.authorities(&tls).unwrap(), one.as_bytes());
    }

    #[test]
    fn servers_of_a_postgres_are_in_the_manifest_or_in_the_topology_when_there_is_one() {
        let servers = Mounts::new(Path::new("/nowhere"), None).servers(&database(false)).unwrap();
        assert_eq!(servers.writer.to_string(), "db:5432");
        assert_eq!(servers.instances[0].name, "db-1:5432");

        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), layout::TOPOLOGY, "writer: db:5432\ninstances:\n- {name: 'db-9:5432', endpoint: 'db-9:5432'}\n");
        let servers = Mounts::new(folder.path(), None).servers(&database(false)).unwrap();
        assert_eq!(servers.instances[0].name, "db-9:5432");
    }

    #[test]
    fn servers_of_aurora_are_in_the_topology() {
        let folder = tempfile::tempdir().unwrap();
        let problem = Mounts::new(folder.path(), None).servers(&database(true)).unwrap_err();
        assert!(problem.message.contains("--topology FILE"), "{problem}");

        write(
            folder.path(),
            "elsewhere.yaml",
            "writer: orders.cluster:5432\ninstances:\n- {name: orders-1, endpoint: 'orders-1.db:5432'}\n",
        );
        let servers = Mounts::new(folder.path(), Some(&folder.path().join("elsewhere.yaml"))).servers(&database(true)).unwrap();
        assert_eq!((servers.writer.host.as_str(), servers.instances[0].name.as_str()), ("orders.cluster", "orders-1"));

        write(folder.path(), layout::TOPOLOGY, "writers: x");
        assert!(Mounts::new(folder.path(), None).servers(&database(true)).unwrap_err().message.contains("is no topology"));
    }
}
