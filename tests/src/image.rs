//! Container images from programs of this machine: from scratch, with the libraries they need, not root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::{process, tools};

/// The image of the process that holds a pod's namespaces.
pub(crate) const PAUSE: &str = "localhost/pause:1";

/// Arguments of `testbed image`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Programs that go to /usr/bin; the first is the entry point
    #[arg(required = true)]
    programs: Vec<PathBuf>,
    /// Name and tag
    #[arg(long, default_value = "localhost/durable-write:dev")]
    tag: String,
    /// Where to write the OCI archive
    #[arg(long)]
    archive: PathBuf,
}

/// Builds an image from programs that are there.
///
/// # Errors
/// As [`build`].
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    tools::apt(&["buildah"])?;
    let place = |program: &Path| Ok(format!("/usr/bin/{}", program.file_name().context("a program has a name")?.display()));
    let places: Vec<String> = arguments.programs.iter().map(|program| place(program)).collect::<anyhow::Result<_>>()?;
    let files: Vec<(&Path, &str)> = arguments.programs.iter().map(PathBuf::as_path).zip(places.iter().map(String::as_str)).collect();
    build(&arguments.tag, &files, &arguments.archive)?;
    println!("{} in {}", arguments.tag, arguments.archive.display());
    Ok(())
}

/// Builds an OCI archive with an image called `tag` from pairs of a program and its place in the image; the first is the entry point.
///
/// The image holds the libraries of the programs and the CA certificates, and runs as user 65532. The same files give the same image.
///
/// # Errors
/// A program is missing, or the image cannot be built.
pub fn build(tag: &str, files: &[(&Path, &str)], archive: &Path) -> anyhow::Result<()> {
    let (_, first) = files.first().context("an image needs a program")?;
    build_with(tag, files, &format!("USER 65532:65532\nENTRYPOINT [\"{first}\"]\n"), archive)
}

/// The archive of [`PAUSE`], made once.
pub(crate) fn pause() -> anyhow::Result<PathBuf> {
    let folder = tools::once("pause-image-1", "2 seconds", |folder| {
        let program = Path::new("/usr/bin/catatonit");
        build_with(PAUSE, &[(program, "/catatonit")], "ENTRYPOINT [\"/catatonit\", \"-P\"]\n", &folder.join("pause.tar"))
    })?;
    Ok(folder.join("pause.tar"))
}

fn build_with(tag: &str, files: &[(&Path, &str)], settings: &str, archive: &Path) -> anyhow::Result<()> {
    // Everything, buildah's storage too, is in a folder of this build: builds do not disturb each other and leave nothing.
    let folder = TempDir::with_prefix_in("image-", tools::cache()?)?;
    let root = folder.path().join("context/root");
    fs::create_dir_all(root.join("tmp"))?;
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    for (program, place) in files {
        copy(program, &root, place)?;
        for library in libraries(program)? {
            copy(Path::new(&library), &root, &library)?;
        }
    }
    copy(Path::new("/etc/ssl/certs/ca-certificates.crt"), &root, "/etc/ssl/certs/ca-certificates.crt")?;
    fs::write(root.join("etc/passwd"), "app:x:65532:65532::/:/none\n")?;
    fs::write(root.join("etc/group"), "app:x:65532:\n")?;
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    fs::write(folder.path().join("context/Containerfile"), format!("FROM scratch\nCOPY root/ /\n{settings}"))?;

    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(folder.path().join("storage"));
        command.arg("--runroot").arg(folder.path().join("run")).args(arguments).current_dir(folder.path().join("context"));
        process::run("buildah", command, &folder.path().join("log"))
    };
    buildah(&["bud", "--isolation", "chroot", "--timestamp", "0", "--tag", tag, "."])?;
    buildah(&["push", tag, &format!("oci-archive:{}:{tag}", folder.path().join("image.tar").display())])?;
    move_file(&folder.path().join("image.tar"), archive)
}

/// What the dynamic linker would load.
fn libraries(program: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if text.contains("not a dynamic executable") || text.contains("statically linked") {
        return Ok(Vec::new());
    }
    if !output.status.success() || text.contains("not found") {
        bail!("ldd {}: {}", program.display(), text.trim());
    }
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

fn copy(file: &Path, root: &Path, place: &str) -> anyhow::Result<()> {
    let target = root.join(place.trim_start_matches('/'));
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::copy(file, &target).with_context(|| format!("copy {} into the image", file.display()))?;
    Ok(())
}

/// Moves a file, also to another file system, so that a reader sees the old or the new one.
fn move_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let partial = tempfile::NamedTempFile::new_in(parent).with_context(|| format!("write to {}", parent.display()))?;
    fs::copy(from, partial.path())?;
    partial.persist(to).with_context(|| format!("write {}", to.display()))?;
    Ok(())
}
