//! Slots: each full cluster on a machine has a number of its own, from which its addresses and names follow.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// As many as there are ranges for pods.
const SLOTS: u8 = 16;
const LOCKS: &str = "/run/durable-write";
const CGROUPS: &str = "/sys/fs/cgroup";

/// The number of a cluster. Addresses are from 198.18.0.0/15, which is set apart for tests of networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u8);

impl Slot {
    fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }

    /// The slot with this number, as read from a file.
    pub fn parse(number: &str) -> Option<Self> {
        number.trim().parse().ok().filter(|number| *number < SLOTS).map(Self)
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// Of the interface on the machine's side and of the control group.
    pub fn name(self) -> String {
        format!("dw{}", self.0)
    }

    /// The machine's end of the link.
    pub fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 1)
    }

    /// The node's end of the link.
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 2)
    }

    pub fn pods(self) -> String {
        format!("198.19.{}.0/20", self.0 * 16)
    }

    pub fn services(self) -> String {
        format!("198.18.{}.0/24", self.0 + 128)
    }

    /// The Service `kubernetes`.
    pub fn first_service(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0 + 128, 1)
    }

    /// The slot in which a cluster with this folder runs.
    pub fn of(folder: &Path) -> Option<Self> {
        Self::all().find(|slot| slot.folder().is_some_and(|used| used == folder) && !slot.processes().is_empty())
    }

    /// The folder of the cluster that has or had the slot.
    fn folder(self) -> Option<PathBuf> {
        fs::read(self.lock_file()).ok().filter(|bytes| !bytes.is_empty()).map(|bytes| PathBuf::from(std::ffi::OsStr::from_bytes(&bytes)))
    }

    fn lock_file(self) -> PathBuf {
        Path::new(LOCKS).join(format!("slot-{}", self.0))
    }

    /// The processes that hold the slot: their standard input is its lock.
    pub fn processes(self) -> Vec<Pid> {
        let lock = self.lock_file();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
            .filter(|pid| fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|target| target == lock))
            .collect()
    }

    /// Process 1 of the cluster's namespaces, by its number outside.
    pub fn init(self) -> anyhow::Result<Pid> {
        let is_init = |pid: &Pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().find_map(|line| line.strip_prefix("NSpid:")).is_some_and(|ids| ids.split_whitespace().skip(1).eq(["1"]))
        };
        self.processes().into_iter().find(is_init).context("the cluster is not running: start it with `testbed cluster up`")
    }

    /// Ends whatever runs in the slot, and leaves nothing of it but its folder.
    pub fn stop(self) -> anyhow::Result<()> {
        self.kill()?;
        // Who has taken the slot since has cleaned it.
        match self.lock()? {
            Some(_lock) => self.clean(),
            None => Ok(()),
        }
    }

    /// The lock of the slot; none when it is in use. Patient, as a process being started holds all our files for a moment.
    fn lock(self) -> anyhow::Result<Option<File>> {
        fs::create_dir_all(LOCKS).with_context(|| format!("make {LOCKS}: a cluster with a node needs root"))?;
        let file = self.lock_file();
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(&file);
        let lock = lock.with_context(|| format!("open {}", file.display()))?;
        let end = Instant::now() + Duration::from_millis(500);
        while lock.try_lock().is_err() {
            if Instant::now() > end {
                return Ok(None);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(Some(lock))
    }

    /// With its process 1 the kernel ends everything in the namespaces, and the mounts and interfaces with them.
    fn kill(self) -> anyhow::Result<()> {
        retry("end the processes of the cluster", || match self.processes().as_slice() {
            [] => Ok(()),
            left => {
                left.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap_or_default());
                bail!("still running: {left:?}")
            }
        })
    }

    /// Removes what outlives the processes: control groups, and the interface for the moment until the kernel does it.
    fn clean(self) -> anyhow::Result<()> {
        if Path::new("/sys/class/net").join(self.name()).exists() {
            Command::new("ip").args(["link", "delete", &self.name()]).output().context("run ip")?;
        }
        let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
        for root in hierarchies.chain([PathBuf::from(CGROUPS)]) {
            let group = root.join(self.name());
            // Busy until the kernel has ended the last container.
            retry("remove the control groups of the cluster", || remove_groups(&group))?;
        }
        Ok(())
    }
}

/// A slot that nobody else can take as long as this, or a process that was started with the lock as its standard input, lives.
#[derive(Debug)]
pub(super) struct Claim {
    pub slot: Slot,
    pub lock: File,
}

impl Claim {
    /// Claims a slot for a folder: the wanted one when it is free, else one that no other folder has used, else any.
    pub fn new(folder: &Path, wanted: Option<Slot>) -> anyhow::Result<Self> {
        let unused = Slot::all().filter(|slot| slot.folder().is_none_or(|used| used == folder || !used.exists()));
        for slot in wanted.into_iter().chain(unused).chain(Slot::all()) {
            if let Some(lock) = slot.lock()? {
                fs::write(slot.lock_file(), folder.as_os_str().as_bytes())?;
                slot.clean()?;
                return Ok(Self { slot, lock });
            }
        }
        bail!("{SLOTS} clusters are running on this machine: end one of them")
    }
}

/// Removes what killed clusters have left behind in slots that are free.
pub(super) fn clean_free_slots() -> anyhow::Result<()> {
    for slot in Slot::all() {
        if slot.lock_file().exists()
            && let Some(_lock) = slot.lock()?
        {
            slot.clean()?;
        }
    }
    Ok(())
}

/// Removes a control group and those below it.
fn remove_groups(group: &Path) -> anyhow::Result<()> {
    let Ok(entries) = fs::read_dir(group) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_groups(&entry.path())?;
    }
    fs::remove_dir(group).with_context(|| format!("remove {}", group.display()))
}

/// Tries for 20 seconds.
fn retry(what: &str, mut attempt: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match attempt() {
            Err(error) if Instant::now() > end => return Err(error.context(format!("could not {what}"))),
            Err(_) => sleep(Duration::from_millis(20)),
            Ok(()) => return Ok(()),
        }
    }
}
