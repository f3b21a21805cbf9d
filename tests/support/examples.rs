//! The examples of `config/examples`, as configurations of tests.

use crate::world::World;
use std::path::Path;

/// An example of `config/examples`.
pub fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples").join(name)).unwrap()
}

/// Makes an example the configuration of a host. Names and paths are replaced by those of the test, and nothing else.
pub fn configure(w: &World, name: &str, replaced: &[(&str, String)]) {
    let mut text = example(name);
    let own = [
        ("/var/lib/backstay", w.at("state")),
        ("file:///srv/backstay", format!("file://{}", w.at("repo"))),
        ("/etc/backstay/host.key", w.at("host.key")),
    ];
    for (from, to) in own.iter().chain(replaced) {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    w.write_config(&text);
}
