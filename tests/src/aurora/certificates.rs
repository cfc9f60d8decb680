//! A private certificate authority and one server certificate with the names of all endpoints.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::user::User;

/// The files that `PostgreSQL` reads, and the authority's certificate for clients.
pub(super) struct Certificates {
    pub authority_pem: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Certificates {
    /// Makes an authority and a certificate for `names` (DNS names or addresses), and writes them into `folder`.
    pub fn create(folder: &Path, names: Vec<String>, user: User) -> anyhow::Result<Self> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "durable-write testbed authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority_key = KeyPair::generate()?;
        let authority_pem = authority.self_signed(&authority_key)?.pem();

        let mut server = CertificateParams::new(names)?;
        server.distinguished_name.push(DnType::CommonName, "durable-write testbed aurora");
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let server_key = KeyPair::generate()?;
        let server_pem = server.signed_by(&server_key, &Issuer::new(authority, authority_key))?.pem();

        let certificate = folder.join("server.pem");
        let key = folder.join("server.key");
        user.write(&certificate, &server_pem)?;
        user.write(&key, &server_key.serialize_pem())?;
        std::fs::write(folder.join("ca.pem"), &authority_pem).context("write the authority's certificate")?;
        Ok(Self { authority_pem, certificate, key })
    }
}
