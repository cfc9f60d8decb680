//! The Deployment of the workers.

use durable_write_crds::layout;
use durable_write_crds::pipeline::SecretReference;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EnvVar, HTTPGetAction, PodSecurityContext, PodSpec, PodTemplateSpec,
    Probe, ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{BuildError, hash, metadata, names};
use crate::pipeline::validate::{Accepted, Identity};
use crate::settings::Settings;

/// How long a worker may take to drain: the poll in flight ends within 25 s, a statement within 30 s, and deletes are retried for 10 s.
const GRACE_SECONDS: i64 = 25 + 30 + 10;
/// What a worker takes besides the messages it holds.
const MEMORY_BESIDES_BUDGET: u64 = 64 << 20;
const AUTHORITIES: &str = "SSL_CERT_FILE";
const HTTP_PORT_NAME: &str = "http";

pub(super) fn build(pipeline: &Accepted, manifest: &str, settings: &Settings) -> Result<Deployment, BuildError> {
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(names::labels(&pipeline.name)), ..ObjectMeta::default() }),
        spec: Some(pod(pipeline, manifest, settings)),
    };
    let text = serde_json::to_string(&template).map_err(|error| BuildError(error.to_string()))?;
    let marks = [(names::TEMPLATE_ANNOTATION, hash(&text)), (names::GENERATION_ANNOTATION, pipeline.generation.to_string())];
    Ok(Deployment {
        metadata: ObjectMeta {
            annotations: Some(marks.map(|(name, value)| (name.to_owned(), value)).into()),
            ..metadata(pipeline, names::workers(&pipeline.name))
        },
        spec: Some(DeploymentSpec {
            replicas: Some(pipeline.replicas),
            revision_history_limit: Some(2),
            // Ours to say: a rollout that never ends would hold up those of others.
            progress_deadline_seconds: Some(600),
            selector: LabelSelector { match_labels: Some(names::selector(&pipeline.name)), match_expressions: None },
            // No surge: a rollout never opens more connections to the database than the manifest allows.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(0)),
                    max_unavailable: Some(IntOrString::String("25%".to_owned())),
                }),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    })
}

/// How many of `replicas` workers may be away during a rollout: a quarter, at least one, as Kubernetes computes it.
pub(in crate::pipeline) fn max_unavailable(replicas: i32) -> i32 {
    (replicas / 4).max(1)
}

/// What every pod of a pipeline has: its identity, its mounts, and one container that runs workers.
pub(in crate::pipeline) fn pod(pipeline: &Accepted, manifest: &str, settings: &Settings) -> PodSpec {
    let service_account = match &pipeline.service_account {
        Identity::Named(name) => name,
        Identity::Made(_) => &pipeline.name,
    };
    let mounts = mounts(pipeline, manifest);
    PodSpec {
        service_account_name: Some(service_account.clone()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(pipeline, mounts.iter().map(|(_, mount)| mount.clone()).collect(), settings)],
        volumes: Some(mounts.into_iter().map(|(volume, _)| volume).collect()),
        ..PodSpec::default()
    }
}

/// The platform team's variables. Of authorities only the manifest's are trusted: the driver would add those of the image to them, and read them
/// for each connection; those of AWS come with the program.
fn environment(settings: &Settings) -> Vec<EnvVar> {
    let mut variables = settings.worker_env.0.clone();
    if variables.iter().all(|variable| variable.name != AUTHORITIES) {
        variables.insert(0, EnvVar { name: AUTHORITIES.to_owned(), value: Some("/dev/null".to_owned()), value_from: None });
    }
    variables
}

fn container(pipeline: &Accepted, mounts: Vec<VolumeMount>, settings: &Settings) -> Container {
    let path = |below: &str| format!("{}/{below}", layout::MOUNTS);
    let arguments = ["run", &path(layout::MANIFEST), "--mounts", layout::MOUNTS, "--topology", &path(layout::TOPOLOGY)];
    Container {
        name: "worker".to_owned(),
        image: Some(settings.worker_image.clone()),
        image_pull_policy: Some(settings.worker_image_pull_policy.clone()),
        command: Some(vec!["durable-write-worker".to_owned()]),
        args: Some(arguments.into_iter().map(str::to_owned).collect()),
        env: Some(environment(settings)),
        ports: Some(vec![ContainerPort {
            name: Some(HTTP_PORT_NAME.to_owned()),
            container_port: layout::HTTP_PORT.into(),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(Probe { period_seconds: Some(10), timeout_seconds: Some(5), failure_threshold: Some(6), ..probe("/livez") }),
        readiness_probe: Some(Probe { period_seconds: Some(5), timeout_seconds: Some(2), failure_threshold: Some(3), ..probe("/readyz") }),
        resources: Some(resources(pipeline)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

fn probe(path: &str) -> Probe {
    let port = IntOrString::String(HTTP_PORT_NAME.to_owned());
    Probe { http_get: Some(HTTPGetAction { path: Some(path.to_owned()), port, ..HTTPGetAction::default() }), ..Probe::default() }
}

/// The manifest's resources; without a limit of memory there, what the budget asks for.
fn resources(pipeline: &Accepted) -> ResourceRequirements {
    let workers = &pipeline.spec.workers;
    let mut resources = workers.resources.clone().unwrap_or_default();
    let limit = || Quantity(format!("{}Mi", (workers.memory_budget.bytes() + MEMORY_BESIDES_BUDGET).div_ceil(1 << 20)));
    resources.limits.get_or_insert_default().entry("memory".to_owned()).or_insert_with(limit);
    resources
}

/// What is mounted, and where. Secrets and ConfigMaps of the user are optional and mounted whole: the worker says what is missing rather
/// than a pod that hangs, and changes arrive in running pods.
fn mounts(pipeline: &Accepted, manifest: &str) -> Vec<(Volume, VolumeMount)> {
    let database = &pipeline.spec.database;
    let mut mounts = vec![
        mount("pipeline", "pipeline", config_map(manifest, None)),
        mount("topology", "topology", config_map(&names::topology(&pipeline.name), None)),
    ];
    if let Some(SecretReference { name }) = &database.credentials.secret_ref {
        mounts.push(mount("credentials", &format!("secrets/{name}"), secret(name)));
    }
    if let Some(ca) = &database.tls.ca {
        let name = &ca.config_map_key_ref.name;
        mounts.push(mount("ca", &format!("configmaps/{name}"), config_map(name, Some(true))));
    }
    mounts
}

fn mount(name: &str, below: &str, source: Volume) -> (Volume, VolumeMount) {
    let mount_path = format!("{}/{below}", layout::MOUNTS);
    let mount = VolumeMount { name: name.to_owned(), mount_path, read_only: Some(true), ..VolumeMount::default() };
    (Volume { name: name.to_owned(), ..source }, mount)
}

fn secret(name: &str) -> Volume {
    Volume {
        secret: Some(SecretVolumeSource { secret_name: Some(name.to_owned()), optional: Some(true), ..SecretVolumeSource::default() }),
        ..Volume::default()
    }
}

fn config_map(name: &str, optional: Option<bool>) -> Volume {
    Volume {
        config_map: Some(ConfigMapVolumeSource { name: name.to_owned(), optional, ..ConfigMapVolumeSource::default() }),
        ..Volume::default()
    }
}

/// The ConfigMaps that a pod of this template mounts.
pub(in crate::pipeline) fn mounted_config_maps(template: &PodTemplateSpec) -> impl Iterator<Item = &str> {
    let volumes = template.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| volume.config_map.as_ref()).map(|source| source.name.as_str())
}
