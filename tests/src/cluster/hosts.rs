//! The names that CoreDNS gives to servers on the machine: a file in the form of `/etc/hosts`, read again when it changes.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context;

/// Replaces the addresses of one name.
pub(super) fn set(folder: &Path, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
    let lock = File::create(folder.join("hosts.lock")).with_context(|| format!("write names in {}", folder.display()))?;
    lock.lock()?;
    let file = folder.join("hosts");
    let changed = replace(&fs::read_to_string(&file).unwrap_or_default(), name, addresses);
    let partial = folder.join("hosts.partial");
    fs::write(&partial, changed)?;
    fs::rename(partial, file).context("put the file of names in place")
}

fn replace(hosts: &str, name: &str, addresses: &[IpAddr]) -> String {
    let others = hosts.lines().filter(|line| line.split_whitespace().nth(1) != Some(name)).map(str::to_owned);
    let lines = others.chain(addresses.iter().map(|address| format!("{address} {name}")));
    lines.map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_replaced_and_others_stay() {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
        let hosts = replace("198.18.0.1 writer\n198.18.0.1 reader\n", "reader", &addresses(&["198.18.0.2", "198.18.0.3"]));
        assert_eq!(hosts, "198.18.0.1 writer\n198.18.0.2 reader\n198.18.0.3 reader\n");
        assert_eq!(replace(&hosts, "reader", &[]), "198.18.0.1 writer\n");
    }
}
