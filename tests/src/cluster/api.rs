//! The light tier: etcd, API server and controller manager as plain processes on the loopback address. No root, no node: pods stay Pending.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::Client;

use super::parts::ControlPlane;
use super::{client, pki, wait};
use crate::process::Process;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// On idle cores it takes 3 seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The running processes. They need no orderly end: the folder is removed.
#[derive(Debug)]
pub(super) struct Api {
    controllers: Option<Process>,
    _server: Process,
    _etcd: Process,
    plane: ControlPlane,
}

impl Api {
    /// Starts etcd and API server in an empty folder.
    pub(super) async fn start(kube: &Path, folder: &Path) -> anyhow::Result<Self> {
        loop {
            match Self::start_on(kube, folder, free_port()?).await? {
                Some(started) => return Ok(started),
                // Another process took the port first.
                None => std::fs::remove_dir_all(folder.join("pki"))?,
            }
        }
    }

    /// None when the port was taken.
    async fn start_on(kube: &Path, folder: &Path, port: u16) -> anyhow::Result<Option<Self>> {
        let plane = ControlPlane {
            pki: folder.join("pki"),
            data: folder.join("etcd"),
            socket: folder.join("etcd.sock"),
            bind: LOOPBACK,
            address: LOOPBACK,
            port,
            services: "198.18.255.0/24".into(),
        };
        pki::make(&plane.pki, &format!("https://{LOOPBACK}:{port}"), &[LOOPBACK])?;
        let start = |name: &str, arguments| Process::start(name, kube, arguments, &folder.join(format!("{name}.log")));
        let mut etcd = start("etcd", plane.etcd())?;
        let mut arguments = plane.api_server();
        // It cannot publish a loopback address as the Service `kubernetes`.
        arguments.push("--endpoint-reconciler-type=none".into());
        let mut server = start("kube-apiserver", arguments)?;
        let client = client(&super::kubeconfig(folder)).await?;
        let ready = wait::until("the API server to be ready", LIMIT, async || {
            etcd.check_running()?;
            wait::api_server(&client).await
        });
        tokio::select! {
            ready = ready => ready?,
            ended = ended(&mut server) => {
                let log = std::fs::read_to_string(folder.join("kube-apiserver.log")).unwrap_or_default();
                return if log.contains("address already in use") { Ok(None) } else { Err(ended) };
            }
        }
        Ok(Some(Self { controllers: None, _server: server, _etcd: etcd, plane }))
    }

    /// Starts the controllers.
    pub(super) async fn start_controllers(&mut self, kube: &Path, folder: &Path) -> anyhow::Result<()> {
        let name = "kube-controller-manager";
        let process = Process::start(name, kube, self.plane.controller_manager(), &folder.join(format!("{name}.log")))?;
        wait_for_controllers(&client(&super::kubeconfig(folder)).await?, self.controllers.insert(process)).await
    }
}

async fn wait_for_controllers(client: &Client, controllers: &mut Process) -> anyhow::Result<()> {
    wait::until("the controllers to make the service account `default`", LIMIT, async || {
        controllers.check_running()?;
        wait::service_account(client).await
    })
    .await
}

/// The error of a process that has ended; pending as long as it runs.
async fn ended(process: &mut Process) -> anyhow::Error {
    loop {
        if let Err(error) = process.check_running() {
            return error;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A port that is free now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((LOOPBACK, 0)).context("find a free port")?.local_addr()?.port())
}
