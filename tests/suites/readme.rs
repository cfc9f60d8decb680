//! README.md does what it says: its commands run in their order in a demo that this test brings up, and what else it names is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use durable_write_testbed::tools;

const TESTBED: &str = env!("CARGO_BIN_EXE_testbed");
/// As long as no command hangs; usually it takes a third of it.
const LIMIT: &str = "180";

/// A block of commands.
struct Block {
    /// What runs it: `sh` for what can be run in the demo, `console` for what cannot.
    language: String,
    /// Where it begins in the README.
    line: usize,
    text: String,
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn readme() -> String {
    fs::read_to_string(repository().join("README.md")).unwrap()
}

fn blocks(language: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut within = false;
    for (index, line) in readme().lines().enumerate() {
        match (line.strip_prefix("```"), within) {
            (Some(language), false) => {
                blocks.push(Block { language: language.to_owned(), line: index + 1, text: String::new() });
                within = true;
            }
            (Some(_), true) => within = false,
            (None, true) => blocks.last_mut().unwrap().text += &format!("{line}\n"),
            (None, false) => {}
        }
    }
    blocks.retain(|block| block.language == language);
    blocks
}

/// The demo, taken down in the end, also when a command fails.
struct Demo(PathBuf);

impl Demo {
    /// With few messages. What a killed run has left in the same folder is taken down before.
    fn up() -> Self {
        let demo = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join("readme"));
        demo.testbed(&["down"]);
        let said = demo.testbed(&["demo", "--messages", "60", "--per-second", "50"]);
        assert!(said.contains(&format!(". {}", demo.environment().display())), "the demo does not say how to look further:\n{said}");
        demo
    }

    fn environment(&self) -> PathBuf {
        self.0.join("env")
    }

    fn testbed(&self, arguments: &[&str]) -> String {
        let output = Command::new(TESTBED).args(arguments).arg("--folder").arg(&self.0).output().unwrap();
        let said = text(&output);
        // In a test that fails already, only the first failure is told.
        assert!(output.status.success() || std::thread::panicking(), "testbed {arguments:?}:\n{said}");
        said
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.testbed(&["down"]);
        fs::remove_dir_all(&self.0).ok();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn its_commands_run_in_the_demo_in_their_order() {
    const MARK: &str = "=== the block at line ";
    let demo = Demo::up();
    let blocks = blocks("sh");
    assert!(blocks.len() > 5, "only {} blocks are found", blocks.len());
    let commands: String = blocks.iter().map(|block| format!("echo '{MARK}{}:'\n{}\n", block.line, block.text)).collect();
    let script = format!("exec 2>&1\n. '{}'\n{commands}", demo.environment().display());
    // One shell, as a reader has it.
    let mut shell = Command::new("timeout");
    shell.args([LIMIT, "bash", "-euo", "pipefail", "-c", &script]).current_dir(repository());
    let output = shell.output().unwrap();
    let said = text(&output);
    println!("{said}");
    let last = said.rsplit(MARK).next().unwrap();
    let failed = blocks.iter().find(|block| last.starts_with(&format!("{}:", block.line)));
    let failed = failed.map_or("", |block| block.text.as_str());
    assert!(output.status.success(), "{}: README.md, line {last}\nThe block is:\n{failed}", output.status);
}

#[test]
fn each_target_of_make_that_it_names_is_one() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    let text = readme();
    let named: Vec<&str> =
        text.split(['`', '\n']).filter_map(|code| code.strip_prefix("make ")).map(|words| words.split(' ').next().unwrap()).collect();
    assert!(named.contains(&"demo") && named.contains(&"image"), "{named:?}");
    for target in named {
        assert!(makefile.contains(&format!("\n{target}: ")), "make {target} is in README.md and not in the Makefile");
    }
}

#[test]
fn the_chart_takes_the_values_that_it_names() {
    let helm = tools::helm().unwrap();
    let installs: Vec<_> = blocks("console").into_iter().filter(|block| block.text.contains("helm install")).collect();
    assert!(!installs.is_empty(), "no block shows helm install");
    for block in installs {
        let (_, install) = block.text.split_once("helm install").unwrap();
        let script = format!("{} template {install}", helm.display());
        let output = Command::new("bash").args(["-euo", "pipefail", "-c", &script]).current_dir(repository()).output().unwrap();
        let rendered = text(&output);
        assert!(output.status.success(), "README.md, line {}: {rendered}", block.line);
        assert!(rendered.contains("registry.example.com/durable-write:0.1.0"), "{rendered}");
    }
}
