//! What listens on this machine, and which process it is.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// A port on which somebody listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Number.
    pub port: u16,
    /// Address; `0.0.0.0` and `::` are all.
    pub address: String,
    /// Name of the process, when it may be known.
    pub process: Option<String>,
    /// Its unit of systemd, when it has one.
    pub unit: Option<String>,
}

/// Ports of this network, without those in containers that have one of their own.
pub(super) fn read() -> Vec<Port> {
    let holders = holders();
    let mut found = BTreeSet::new();
    // 0A is a socket that listens; 07 is one that is bound and connected to nobody, which is listening for UDP.
    for (protocol, file, state) in
        [("tcp", "tcp", "0A"), ("tcp", "tcp6", "0A"), ("udp", "udp", "07"), ("udp", "udp6", "07")]
    {
        let text = std::fs::read_to_string(Path::new("/proc/net").join(file)).unwrap_or_default();
        for (address, port, inode) in text.lines().filter_map(|l| socket(l, state)) {
            let (process, unit) = holders.get(inode).cloned().unwrap_or_default();
            found.insert(Port { protocol: protocol.to_owned(), port, address, process, unit });
        }
    }
    found.into_iter().collect()
}

/// Address, port and inode of a line of `/proc/net/tcp`, when its socket is in this state.
fn socket<'a>(line: &'a str, state: &str) -> Option<(String, u16, &'a str)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, st, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|_| *st == state)?;
    Some((self::address(address)?, port, inode))
}

/// Words of four bytes, each in the machine's own order.
fn address(hex: &str) -> Option<String> {
    let words: Option<Vec<[u8; 4]>> = (0..hex.len() / 8)
        .map(|n| Some(u32::from_str_radix(hex.get(n * 8..n * 8 + 8)?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        _ => None,
    }
}

/// Name and unit of the process by the inode of a socket. Without root only our own can be seen.
fn holders() -> HashMap<String, (Option<String>, Option<String>)> {
    let mut found = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        if !entry.file_name().to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit())) {
            continue;
        }
        let process = entry.path();
        let read = |file: &str| std::fs::read_to_string(process.join(file)).ok();
        let who = (read("comm").map(|n| n.trim().to_owned()), read("cgroup").and_then(|c| unit(&c)));
        for fd in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Ok(link) = std::fs::read_link(fd.path()) else { continue };
            let inode = link.to_str().and_then(|l| l.strip_prefix("socket:[")?.strip_suffix(']'));
            if let Some(inode) = inode {
                // Of a parent and its workers the parent, which has the lower number, comes first.
                found.entry(inode.to_owned()).or_insert_with(|| who.clone());
            }
        }
    }
    found
}

/// The unit of systemd that a control group belongs to.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|l| l.strip_prefix("0::").or(l.split_once(":name=systemd:").map(|(_, p)| p)))?;
    let unit = path.split('/').rfind(|part| part.ends_with(".service") || part.ends_with(".socket"))?;
    Some(unit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_we_listen_on_is_found_with_our_name() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let own = listener.local_addr().unwrap();
            let found = read();
            let port = found.iter().find(|p| p.protocol == "tcp" && p.port == own.port()).unwrap();
            let name = std::fs::read_to_string("/proc/self/comm").unwrap();
            assert_eq!((port.address.clone(), port.process.as_deref()), (own.ip().to_string(), Some(name.trim())));
        }
    }

    #[test]
    fn the_unit_is_the_innermost_service() {
        assert_eq!(unit("0::/system.slice/nginx.service\n").as_deref(), Some("nginx.service"));
        assert_eq!(unit("1:name=systemd:/system.slice/a.service\n0::/\n").as_deref(), Some("a.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope"), None);
    }
}
