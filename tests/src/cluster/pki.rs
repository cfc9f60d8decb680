//! Keys and certificates of a cluster, and the kubeconfigs that hold them. Made once for a folder, and good for all its starts.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;
use k8s_openapi::ByteString;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

/// The name of the one node.
pub(super) const NODE: &str = "testbed";

/// Fills `folder` unless it is there: `ca.crt`, `apiserver.*`, `kubelet.*`, `admin.*`, `sa.key`, `sa.pub` and `kubelet.kubeconfig`,
/// `admin.kubeconfig`. The API server answers at `server` and at the other `addresses`.
pub(super) fn make(folder: &Path, server: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
    if folder.exists() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    fs::remove_dir_all(&partial).ok();
    fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
    let authority = Authority::new()?;
    fs::write(partial.join("ca.crt"), authority.0.pem())?;

    let mut names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"].map(str::to_owned).to_vec();
    names.extend(addresses.iter().map(IpAddr::to_string));
    authority.certify(&partial, "apiserver", "kube-apiserver", None, names.clone())?;
    authority.certify(&partial, "kubelet", &format!("system:node:{NODE}"), Some("system:nodes"), names)?;
    authority.certify(&partial, "admin", "admin", Some("system:masters"), Vec::new())?;
    for user in ["kubelet", "admin"] {
        fs::write(partial.join(format!("{user}.kubeconfig")), kubeconfig(&partial, user, server)?)?;
    }
    let tokens = KeyPair::generate()?;
    fs::write(partial.join("sa.key"), tokens.serialize_pem())?;
    fs::write(partial.join("sa.pub"), tokens.public_key_pem())?;
    fs::rename(&partial, folder).context("put the certificates in place")
}

/// A kubeconfig with the keys in it, so that it can be copied anywhere. (JSON is YAML.)
fn kubeconfig(folder: &Path, user: &str, server: &str) -> anyhow::Result<String> {
    let data = |name: String| fs::read(folder.join(name)).map(ByteString);
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": data("ca.crt".into())?}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": data(format!("{user}.crt"))?,
            "client-key-data": data(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
        "current-context": "testbed",
    });
    Ok(serde_json::to_string_pretty(&config)?)
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "testbed");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Writes `{file}.crt` and `{file}.key` for a user (`name` and `group`, as Kubernetes reads them) who may serve under `names` as well.
    fn certify(&self, folder: &Path, file: &str, name: &str, group: Option<&str>, names: Vec<String>) -> anyhow::Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0)?;
        fs::write(folder.join(format!("{file}.crt")), certificate.pem())?;
        fs::write(folder.join(format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }
}
