//! The HTML report as a browser shows it: headless Chromium renders the page, and what it has made of it is looked at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "../../cli/tests/fixture/mod.rs"]
mod fixture;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::process::{Command, Stdio};
use std::sync::Once;

use durable_write_crds::evidence::Evidence;
use durable_write_testbed::tools;
use fixture::endings::{failed, inconclusive};
use fixture::{account, passed};
use kubectl_dw::report::{Format, render};
use tempfile::TempDir;

/// A browser that has not rendered a page by then hangs.
const LIMIT: &str = "60";

/// Installs the browser once for all tests.
static BROWSER: Once = Once::new();

/// A report in a folder of its own, beside the browser's profile.
struct Page(TempDir);

impl Page {
    fn new(evidence: &Evidence) -> Self {
        BROWSER.call_once(|| tools::apt_programs(&[("chromium", "chromium")]).unwrap());
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("report.html"), render(&account(evidence), Format::Html).unwrap()).unwrap();
        Self(folder)
    }

    fn chromium(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("timeout");
        command.args([LIMIT, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]);
        // Whatever the page would load from elsewhere is refused.
        command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--no-first-run", "--disable-background-networking"]);
        command.arg(format!("--user-data-dir={}", self.0.path().join("profile").display())).args(arguments);
        command.arg(format!("file://{}", self.0.path().join("report.html").display()));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The document as the browser has understood it.
    fn document(&self) -> String {
        self.chromium(&["--dump-dom"])
    }

    /// How many pixels of each colour the first screen has.
    fn colours(&self, arguments: &[&str]) -> BTreeMap<[u8; 3], usize> {
        let file = self.0.path().join("page.png");
        let screenshot = format!("--screenshot={}", file.display());
        self.chromium(&[&["--window-size=1100,900", screenshot.as_str()], arguments].concat());
        let mut picture = png::Decoder::new(BufReader::new(File::open(file).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; picture.output_buffer_size().unwrap()];
        let frame = picture.next_frame(&mut pixels).unwrap();
        let mut colours = BTreeMap::new();
        for pixel in pixels[..frame.buffer_size()].chunks(frame.color_type.samples()) {
            *colours.entry([pixel[0], pixel[1], pixel[2]]).or_default() += 1;
        }
        colours
    }
}

/// The words between tags.
fn text(document: &str) -> String {
    let words = document.split('<').map(|part| part.split_once('>').map_or("", |(_, text)| text));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn the_timeline_and_the_verdict_are_seen() {
    let colours = Page::new(&passed()).colours(&[]);
    let seen = |colour: [u8; 3]| colours.get(&colour).copied().unwrap_or(0);
    assert!(seen([255, 255, 255]) > 500_000, "the page is not white");
    assert!(seen([0x0b, 0x5f, 0xad]) > 3000, "the first writer's band is not there");
    assert!(seen([0xa3, 0x48, 0x0c]) > 3000, "the second writer's band is not there");
    assert!(seen([0x1a, 0x7f, 0x37]) > 500, "neither the verdict nor the commit side is green");
    assert!(seen([0xb4, 0x23, 0x18]) > 50, "the failed attempts are not there");
}

#[test]
fn on_a_dark_screen_the_page_is_dark() {
    let colours = Page::new(&passed()).colours(&["--blink-settings=preferredColorScheme=0"]);
    let (background, _) = colours.iter().max_by_key(|(_, count)| **count).unwrap();
    assert_eq!(*background, [0x0f, 0x14, 0x1a]);
    assert!(colours.get(&[0x6c, 0xb6, 0xff]).is_some_and(|count| *count > 3000), "the first writer's band is not there");
}

#[test]
fn the_browser_finds_what_was_written_and_runs_nothing() {
    let document = Page::new(&failed()).document();
    assert!(!document.contains("<script"), "a text became an element:\n{document}");
    let words = text(&document);
    for wanted in ["Fail (ObjectiveMissed)", "Timeline", "orders-1", "Commit side", "Failover called for", "recoveryTime", "Method"] {
        assert!(words.contains(wanted), "{wanted} is not in the page:\n{words}");
    }
    assert!(document.contains("&lt;script&gt;alert(1)"), "the reason is not shown");
    let lines = document.matches("<polyline").count();
    assert_eq!(lines, 8, "each of four lines is in two parts, as seconds are missing");
}

#[test]
fn without_a_series_the_page_says_so() {
    let document = Page::new(&inconclusive()).document();
    let words = text(&document);
    assert!(!document.contains("<svg") && words.contains("Inconclusive (ProbeLost)"), "{words}");
    assert!(words.contains("There is no timeline") && words.contains("was never reached"), "{words}");
}
