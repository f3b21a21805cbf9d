//! Where something that a test starts can listen.

use std::net::TcpListener;

/// A port of loopback that was free a moment ago. Somebody else may take it meanwhile: who cannot bear that asks again.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
