//! The page for people.

use crate::metrics::world;
use crate::serve::Serving;

/// Every tag that is opened is closed, in order; attributes are quoted.
fn well_formed(html: &str) {
    const VOID: &[&str] = &["meta", "!doctype"];
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let end = rest[at..].find('>').map(|e| at + e).unwrap();
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap().to_lowercase();
        match tag.strip_prefix('/') {
            Some(_) => assert_eq!(open.pop().as_deref(), Some(name.as_str()), "near {}", &rest[..rest.len().min(200)]),
            None if VOID.contains(&name.as_str()) || tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}

#[test]
fn it_shows_plans_restores_upkeep_and_keys_without_any_script() {
    let world = world();
    world.file("a.txt", crate::world::noise(50_000, 7));
    world.backup();
    world.file("b.txt", crate::world::noise(50_000, 8));
    world.backup();
    world.run(&["restore", "--yes"]).code(0);
    world.run(&["check"]).code(0);
    world.run(&["--identity", &world.at("recovery.key"), "key", "check"]).code(0);
    let serving = Serving::start(&world);
    let (status, head, page) = serving.get("/");
    assert_eq!(status, 200);
    assert!(head.to_lowercase().contains("content-security-policy: default-src 'none'"), "{head}");
    well_formed(&page);
    for expected in
        ["Backstay on test-host", "no problem", "the last 2 backups", "Last restores", "Upkeep", "Keys", "recovery"]
    {
        assert!(page.contains(expected), "{expected} is not in {page}");
    }
    assert_eq!(page.matches("<rect").count(), 4);
    for never in ["<script", "http://", "javascript:", "onclick"] {
        assert!(!page.contains(never), "{never} is in {page}");
    }
}

#[test]
fn problems_come_first_with_what_to_do() {
    let world = world();
    world.file("a.txt", b"x");
    world.backup();
    std::fs::rename(world.path().join("tree"), world.path().join("gone")).unwrap();
    world.run(&["backup"]).code(11);
    let serving = Serving::start(&world);
    let page = serving.get("/").2;
    well_formed(&page);
    let (problem, plans) = (page.find("source tree of plan p failed").unwrap(), page.find("<h2>Plans").unwrap());
    assert!(problem < plans, "{page}");
    assert!(page.contains("recovery key recovery was never proven"), "{page}");
    assert!(page.contains("key check"), "{page}");
}
