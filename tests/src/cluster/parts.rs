//! The command lines of the control plane, which both tiers share.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Where a control plane lives.
#[derive(Debug)]
pub(super) struct ControlPlane {
    /// The folder of [`super::pki::make`].
    pub pki: PathBuf,
    /// The data of etcd.
    pub data: PathBuf,
    /// The socket of etcd.
    pub socket: PathBuf,
    /// Where the API server listens.
    pub bind: IpAddr,
    /// Where pods find it.
    pub address: IpAddr,
    pub port: u16,
    /// The addresses of Services.
    pub services: String,
}

impl ControlPlane {
    /// etcd on a unix socket: no port, nobody else on the machine reaches it by accident.
    pub fn etcd(&self) -> Vec<String> {
        let socket = self.socket.display();
        vec![
            "etcd".into(),
            format!("--data-dir={}", self.data.display()),
            format!("--listen-client-urls=unix://{socket}"),
            format!("--listen-peer-urls=unix://{socket}.peer"),
            // Required, but nobody asks for it.
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            // A power cut may lose data: this is a test bed. The death of the process loses none.
            "--unsafe-no-fsync".into(),
            "--log-level=warn".into(),
        ]
    }

    pub fn api_server(&self) -> Vec<String> {
        vec![
            "kube-apiserver".into(),
            format!("--etcd-servers=unix://{}", self.socket.display()),
            format!("--bind-address={}", self.bind),
            format!("--advertise-address={}", self.address),
            format!("--secure-port={}", self.port),
            format!("--service-cluster-ip-range={}", self.services),
            self.file("--tls-cert-file", "apiserver.crt"),
            self.file("--tls-private-key-file", "apiserver.key"),
            self.file("--client-ca-file", "ca.crt"),
            self.file("--service-account-key-file", "sa.pub"),
            self.file("--service-account-signing-key-file", "sa.key"),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            self.file("--kubelet-client-certificate", "admin.crt"),
            self.file("--kubelet-client-key", "admin.key"),
            // What makes exec, logs and port-forward work.
            "--kubelet-preferred-address-types=InternalIP".into(),
            "--allow-privileged=true".into(),
        ]
    }

    pub fn controller_manager(&self) -> Vec<String> {
        vec![
            "kube-controller-manager".into(),
            self.file("--kubeconfig", "admin.kubeconfig"),
            self.file("--service-account-private-key-file", "sa.key"),
            self.file("--root-ca-file", "ca.crt"),
            // Each controller is a ServiceAccount of its own to access rights and admission, as clusters of kubeadm and EKS have it.
            "--use-service-account-credentials=true".into(),
            "--leader-elect=false".into(),
            "--secure-port=0".into(),
        ]
    }

    fn file(&self, option: &str, name: &str) -> String {
        let path: &Path = &self.pki.join(name);
        format!("{option}={}", path.display())
    }
}
