//! The manifest is the worker's configuration: read from a file and held against the same schema and rules as by the API server.

mod mounts;
mod structure;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use durable_write_crds::conditions::reasons;
use durable_write_crds::{DurableWritePipeline, GROUP, layout};
use kube::CustomResourceExt;
use kube::core::cel::{ValidationError, Validator, apply_defaults};
use serde_json::Value;

pub use mounts::{Mounts, Server, Servers};

use crate::problem::Problem;

/// Where a pipeline and all that it refers to are found, as each command of the worker takes it.
#[derive(clap::Args, Clone, Debug)]
pub struct Files {
    /// The manifest: the same YAML that `kubectl apply` takes
    manifest: PathBuf,
    /// The folder with secrets/<name>/<key> and configmaps/<name>/<key>, as the pods have it
    #[arg(long, default_value = layout::MOUNTS)]
    mounts: PathBuf,
    /// Where an Aurora cluster's instances are, in the form of the topology ConfigMap; by default topology/topology.yaml below --mounts
    #[arg(long)]
    topology: Option<PathBuf>,
}

impl Files {
    /// Reads and validates the manifest.
    ///
    /// # Errors
    /// As [`load`].
    pub fn load(&self) -> Result<DurableWritePipeline, ManifestError> {
        load(&self.manifest)
    }

    /// What the manifest refers to.
    #[must_use]
    pub fn mounts(&self) -> Mounts {
        Mounts::new(&self.mounts, self.topology.as_deref())
    }
}

/// Why a manifest cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("{}: {source}: name the file of a DurableWritePipeline", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not one document of YAML.
    #[error("{}: {message}", path.display())]
    NotYaml {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        message: String,
    },
    /// The document breaks the schema or a rule.
    #[error("{}: {}", path.display(), Lines(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
}

/// Reads and validates a manifest. What it leaves out has the schema's defaults.
///
/// # Errors
/// It cannot be read, or is not valid: everything that is wrong is said, with the field.
pub fn load(path: &Path) -> Result<DurableWritePipeline, ManifestError> {
    let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Unreadable { path: path.to_owned(), source })?;
    let document: Value =
        serde_saphyr::from_str(&text).map_err(|error| ManifestError::NotYaml { path: path.to_owned(), message: error.to_string() })?;
    validate(document).map_err(|problems| ManifestError::Invalid { path: path.to_owned(), problems })
}

/// Holds a manifest against schema and rules.
fn validate(mut document: Value) -> Result<DurableWritePipeline, Vec<Problem>> {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema);
    drop_nulls(&mut document);
    let kind = wrong_kind(&document);
    if !kind.is_empty() {
        return Err(kind);
    }
    let document = apply_defaults(&SCHEMA, &document);
    let problems = structure::problems(&SCHEMA, &document);
    if !problems.is_empty() {
        return Err(problems);
    }
    let broken_rules = Validator::new().validate(&SCHEMA, &document, None);
    broken_rules.map_err(|errors| errors.into_vec().into_iter().map(broken_rule).collect::<Vec<_>>())?;
    serde_path_to_error::deserialize(document).map_err(|error| vec![invalid(&error.path().to_string(), error.inner().to_string())])
}

fn schema() -> Value {
    let versions = DurableWritePipeline::crd().spec.versions;
    let schema = versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
    serde_json::to_value(schema).unwrap_or_default()
}

/// A field that is null counts as left out, as on the API server.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn wrong_kind(document: &Value) -> Vec<Problem> {
    let version = format!("{GROUP}/v1alpha1");
    let expected = [("apiVersion", version.as_str()), ("kind", "DurableWritePipeline")];
    let wrong = expected.into_iter().filter(|(field, value)| document.get(field).and_then(Value::as_str) != Some(value));
    wrong.map(|(field, value)| invalid(field, format!("must be {value}"))).collect()
}

/// Messages of rules that look at several fields begin with the field that is wrong.
fn broken_rule(error: ValidationError) -> Problem {
    match error.message.split_once(": ").filter(|(field, _)| !field.contains(' ')) {
        Some((field, message)) if field.starts_with("metadata.") => invalid(field, message),
        Some((field, message)) => invalid(&format!("spec.{field}"), message),
        None => invalid(&error.field_path, error.message),
    }
}

fn invalid(field: &str, message: impl Into<String>) -> Problem {
    Problem::new(reasons::INVALID_SPEC, field, message)
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
