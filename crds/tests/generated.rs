//! The generated files are what the types say, in both places.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

#[test]
fn the_definitions_in_the_repository_and_in_the_chart_are_the_ones_that_crdgen_writes() {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("definitions");
    let status = Command::new(env!("CARGO_BIN_EXE_crdgen")).arg(&fresh).status().unwrap();
    assert!(status.success());
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut compared = 0;
    for entry in std::fs::read_dir(&fresh).unwrap() {
        let path = entry.unwrap().path();
        let expected = std::fs::read_to_string(&path).unwrap();
        for folder in ["crds", "../charts/durable-write/definitions"] {
            let file = crate_folder.join(folder).join(path.file_name().unwrap());
            let found = std::fs::read_to_string(&file).unwrap_or_default();
            assert!(found == expected, "{} is not what crdgen writes: run `make crds`", file.display());
            compared += 1;
        }
    }
    assert_eq!(compared, 4);
}

#[test]
fn the_schema_of_the_evidence_in_the_repository_is_the_one_that_schemagen_prints() {
    let printed = Command::new(env!("CARGO_BIN_EXE_schemagen")).output().unwrap();
    assert!(printed.status.success());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/drill-evidence-v1.json");
    assert!(std::fs::read(&file).unwrap_or_default() == printed.stdout, "{} is not what schemagen prints: run `make crds`", file.display());
}
