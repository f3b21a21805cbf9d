//! Whose server a source's data is in: this machine's, or one of another machine, which is not lost with this one.

use crate::config::SourceConfig;
use crate::host::addresses::Addresses;
use crate::sources::command::Target;
use crate::sources::redis::address::Place;
use std::net::IpAddr;
use std::time::Duration;

/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(10);

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This machine's, or nobody's: it needs no server.
    Here,
    /// The lost machine's by this name, which does not lead to this machine.
    Named(String),
    /// Another machine's.
    Elsewhere,
}

/// The host of a source's server, unless it is on the machine itself by how it is named.
fn host_of(source: &SourceConfig) -> Option<&str> {
    let address = match source {
        SourceConfig::Postgres(postgres) => &postgres.address,
        SourceConfig::Command(command) => match &command.back.into {
            Target::Database(bound) => &bound.server.address,
            _ => return None,
        },
        SourceConfig::Redis(redis) if redis.container.is_none() && !redis.server.is_here() => {
            return match &redis.server.place {
                Place::Tcp { host, .. } => Some(host.as_str()),
                Place::Unix(_) => None,
            };
        }
        _ => return None,
    };
    (!address.is_here()).then(|| address.host())
}

/// Whether a host is the lost machine by its own name, short or qualified.
fn is_name_of(host: &str, lost: &str) -> bool {
    let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let (host, lost) = (plain(host), plain(lost));
    match (host.split_once('.'), lost.split_once('.')) {
        _ if lost.is_empty() => false,
        (Some((short, _)), None) => short == lost,
        (None, Some((short, _))) => short == host,
        _ => host == lost,
    }
}

/// Whose a source's server is. `lost` is the lost machine's name for itself.
pub async fn whose(source: &SourceConfig, lost: &str) -> Whose {
    match host_of(source) {
        None => Whose::Here,
        Some(host) if leads_here(host).await => Whose::Here,
        Some(host) if is_name_of(host, lost) => Whose::Named(host.to_owned()),
        Some(_) => Whose::Elsewhere,
    }
}

/// Whether a name has addresses of this machine only. It does not, as long as these are not known: what is restored into
/// another machine's server is gone there.
async fn leads_here(host: &str) -> bool {
    let Ok(Ok(found)) = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, 0))).await else { return false };
    let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    Addresses::read().is_ok_and(|own| are_of(&own, &found))
}

/// Whether there are addresses, and all of them the machine's own.
fn are_of(own: &Addresses, found: &[IpAddr]) -> bool {
    !found.is_empty() && found.iter().all(|address| own.has(*address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::recorded;

    #[test]
    fn a_machine_is_known_by_its_short_and_its_qualified_name() {
        for (host, lost, expected) in [
            ("erp-1", "erp-1", true),
            ("ERP-1.example.org.", "erp-1.example.org", true),
            ("erp-1.example.org", "erp-1", true),
            ("erp-1", "erp-1.example.org", true),
            ("erp-1.example.org", "erp-1.example.com", false),
            ("erp-2", "erp-1", false),
            ("erp-1", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_name_of(host, lost), expected, "{host} {lost}");
        }
    }

    #[tokio::test]
    async fn only_an_address_of_its_own_leads_to_a_machine() {
        assert!(leads_here("127.0.0.1").await);
        // Kept for documentation: nobody has it.
        assert!(!leads_here("192.0.2.1").await);
    }

    #[tokio::test]
    async fn a_server_by_an_address_of_the_machine_is_here() {
        let text = |host: &str| format!("[sources.db]\nkind = \"postgres\"\nurl = \"postgresql://erp@{host}/erp\"\n");
        for (host, expected) in [
            ("localhost", Whose::Here),
            ("127.0.0.2", Whose::Here),
            // Kept for documentation: nobody has it.
            ("203.0.113.1", Whose::Elsewhere),
            ("erp-1.invalid", Whose::Named("erp-1.invalid".to_owned())),
        ] {
            let sources = recorded::sources(&text(host)).unwrap();
            assert_eq!(whose(sources.values().next().unwrap(), "erp-1").await, expected, "{host}");
        }
    }

    #[test]
    fn a_name_with_one_address_of_another_machine_is_not_of_this_one() {
        let own = Addresses::of(&["10.0.0.5".parse().unwrap()]);
        let found = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        assert!(are_of(&own, &found(&["10.0.0.5"])) && are_of(&own, &found(&["127.0.1.1", "::1"])));
        assert!(!are_of(&own, &found(&["10.0.0.5", "10.0.0.6"])) && !are_of(&own, &[]));
    }
}
