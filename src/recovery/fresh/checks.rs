//! Checks of an exercise. The host may live, and what answers for it by name is the host itself: a check that reached it would
//! say nothing of what was restored, log in there, and run who knows what against it.

use crate::config::checks::{Check, What, address_of};
use crate::host::addresses::Addresses;
use std::net::IpAddr;

/// Why a check of another machine is left out.
const ELSEWHERE: &str = "it asks another machine by its address";

/// A check that asks this machine only, whatever a name leads to; else why it is left out.
///
/// # Errors
/// The reason, in words.
pub fn only_here(check: &Check, own: &Addresses) -> Result<Check, &'static str> {
    let mut check = check.clone();
    match &mut check.what {
        What::Http(http) => {
            let urls = [Some(&http.url), http.login.as_ref().map(|login| &login.url)];
            let foreign = |address| !own.has(address);
            if urls.into_iter().flatten().filter_map(address_of).chain(http.resolve).any(foreign) {
                return Err(ELSEWHERE);
            }
            http.only_here = true;
        }
        What::Tcp(port) => {
            let Some((host, number)) = port.address.rsplit_once(':') else { return Err(ELSEWHERE) };
            match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(address) if own.has(address) => {}
                Ok(_) => return Err(ELSEWHERE),
                // Both addresses of that name are here.
                Err(_) if host == "localhost" => {}
                Err(_) => port.address = format!("127.0.0.1:{number}"),
            }
        }
        What::Command(_) => return Err("what its program reaches is not known"),
        What::Sql(_) | What::Container(_) | What::Unit(_) | What::Log(_) => {}
    }
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checks::{RawCheck, check_of};
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::path::Path;

    fn of(raw: Value) -> Result<Check, &'static str> {
        let raw: RawCheck = serde_json::from_value(raw).unwrap();
        let check = check_of(raw, "checks[1]", Path::new("/"), &BTreeMap::new()).unwrap();
        only_here(&check, &Addresses::of(&["10.0.0.5".parse().unwrap()]))
    }

    #[test]
    fn a_name_of_the_living_host_is_asked_here() {
        for url in ["https://shop.example/", "http://10.0.0.5/", "http://[::1]:8080/"] {
            let What::Http(http) = of(json!({ "http": url })).unwrap().what else { panic!("{url}") };
            assert!(http.only_here, "{url}");
        }
        for (address, expected) in [
            ("shop.example:5432", "127.0.0.1:5432"),
            ("localhost:6379", "localhost:6379"),
            ("10.0.0.5:80", "10.0.0.5:80"),
            ("[::1]:80", "[::1]:80"),
        ] {
            let What::Tcp(port) = of(json!({ "tcp": address })).unwrap().what else { panic!("{address}") };
            assert_eq!(port.address, expected);
        }
        assert!(of(json!({ "unit": "nginx" })).is_ok());
    }

    #[test]
    fn what_reaches_beyond_the_machine_is_not_asked() {
        for raw in [
            json!({ "http": "http://10.0.0.6/" }),
            json!({ "http": "https://shop.example/", "resolve": "10.0.0.6" }),
            json!({ "tcp": "10.0.0.6:80" }),
            json!({ "tcp": "[2001:db8::6]:80" }),
            json!({ "command": ["/usr/local/bin/order"] }),
        ] {
            assert!(of(raw.clone()).is_err(), "{raw}");
        }
    }
}
