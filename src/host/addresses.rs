//! The addresses that this machine has, as the kernel knows them.
//!
//! Not by listening on one: with `net.ipv4.ip_nonlocal_bind`, as load balancers set it, that succeeds for every address.

use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Routes of IPv4; those to the machine itself are marked.
const IPV4: &str = "/proc/net/fib_trie";
/// Addresses of IPv6; not there where the kernel has none.
const IPV6: &str = "/proc/net/if_inet6";
/// `IFA_F_DADFAILED`: another machine has the address.
const TAKEN: u32 = 0x08;
/// `IFA_F_TENTATIVE`: whether another one has it is being found out.
const TENTATIVE: u32 = 0x40;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    /// Reads them.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the kernel's tables cannot be read: then no address is known to be this machine's.
    pub fn read() -> Result<Self> {
        let text = |path: &str| {
            std::fs::read_to_string(path).map_err(|e| {
                (e.kind(), Error::io("which addresses this machine has cannot be read", Path::new(path), e))
            })
        };
        let four = text(IPV4).map_err(|(_, e)| e.kind(Kind::Refused))?;
        let six = match text(IPV6) {
            Ok(text) => text,
            Err((ErrorKind::NotFound, _)) => String::new(),
            Err((_, e)) => return Err(e.kind(Kind::Refused)),
        };
        let found = of_ipv4(&four).into_iter().map(IpAddr::V4).chain(of_ipv6(&six).into_iter().map(IpAddr::V6));
        Ok(Addresses(found.collect()))
    }

    /// Just these.
    pub fn of(addresses: &[IpAddr]) -> Self {
        Addresses(addresses.iter().copied().collect())
    }

    /// Whether what is sent to an address comes to this machine.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_loopback() || address.is_unspecified() || self.0.contains(&address)
    }
}

/// Of `fib_trie`: below the line of an address (`|-- 10.0.0.5`) stand its routes, and `/32 host LOCAL` is one's own.
fn of_ipv4(table: &str) -> BTreeSet<Ipv4Addr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in table.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["|--", address, ..] => last = address.parse().ok(),
            ["+--", ..] => last = None,
            ["/32", "host", "LOCAL", ..] => found.extend(last),
            _ => {}
        }
    }
    found
}

/// Of `if_inet6`: address, interface, prefix, scope, flags and name. The same address of a link may be another machine's on
/// another link, so those are left out.
fn of_ipv6(table: &str) -> BTreeSet<Ipv6Addr> {
    let address = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [address, _, _, _, flags, ..] = words[..] else { return None };
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let bits = (address.len() == 32).then(|| u128::from_str_radix(address, 16).ok()).flatten()?;
        let address = Ipv6Addr::from(bits);
        let of_a_link = address.segments()[0] & 0xffc0 == 0xfe80;
        (flags & (TAKEN | TENTATIVE) == 0 && !of_a_link).then_some(address)
    };
    table.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_that_the_kernel_calls_local() {
        let table = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     |-- 10.0.0.9
        /32 link UNICAST
Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 10.0.0.0/24 2 0 2
        +-- 10.0.0.0/29 2 0 2
           |-- 10.0.0.0
              /24 link UNICAST
           |-- 10.0.0.5
              /32 host LOCAL
        |-- 10.0.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
";
        let found: Vec<String> = of_ipv4(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["10.0.0.5", "127.0.0.1"]);
        assert!(of_ipv4("").is_empty() && of_ipv4("/32 host LOCAL\n").is_empty());
    }

    #[test]
    fn an_address_that_another_machine_has_is_not_its_own() {
        let table = "\
00000000000000000000000000000001 01 80 10 80       lo
20010db8000000000000000000000005 02 40 00 80     eth0
20010db8000000000000000000000006 02 40 00 88     eth0
20010db8000000000000000000000007 02 40 00 c0     eth0
fe80000000000000000000000000000a 02 40 20 80     eth0
short 02 40 00 80 eth0
";
        let found: Vec<String> = of_ipv6(table).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["::1", "2001:db8::5"]);
    }

    #[test]
    fn loopback_is_always_here() {
        let own = Addresses::of(&["10.0.0.5".parse().unwrap()]);
        for (address, expected) in [
            ("127.0.1.1", true),
            ("::1", true),
            ("10.0.0.5", true),
            ("::ffff:10.0.0.5", true),
            ("10.0.0.6", false),
            ("2001:db8::5", false),
        ] {
            assert_eq!(own.has(address.parse().unwrap()), expected, "{address}");
        }
        assert!(Addresses::read().unwrap().has("127.0.0.1".parse().unwrap()));
    }
}
