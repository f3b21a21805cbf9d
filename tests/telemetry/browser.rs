//! The page in a real browser: on a desk and on a telephone, with what is good and what is bad, and without JavaScript.

use crate::chromium::{laid_out, without_scripts};
use crate::metrics::world;
use crate::serve::Serving;
use crate::world::{World, noise};
use serde_json::Value;

/// A host on which much has happened, and with names as long as they get.
fn busy() -> World {
    let mut world = world();
    let long = "a-plan-with-quite-a-long-name-of-somebody-s-shop";
    world.extra.push_str(&format!("[plans.{long}]\nsources = [\"tree\"]\n"));
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    for n in 0..6 {
        world.file(&format!("{n}.txt"), noise(30_000 * (n + 1), n as u64));
        world.run(&["backup", "p"]).code(0);
    }
    world.run(&["restore", "--plan", "p", "--yes"]).code(0);
    world.run(&["check"]).code(0);
    world.run(&["--identity", &world.at("recovery.key"), "key", "check"]).code(0);
    let gone = world.at(&format!("gone-{}", "x".repeat(120)));
    std::fs::rename(world.path().join("tree"), gone).unwrap();
    world.run(&["backup", "p"]).code(11);
    world
}

fn page(world: &World) -> (Serving, String) {
    let serving = Serving::start(world);
    let page = serving.get("/").2;
    (serving, page)
}

#[track_caller]
fn fits(measured: &Value, width: u64) {
    assert_eq!(measured["width"], width, "{measured:#}");
    assert!(measured["scroll"].as_u64().unwrap() <= width, "it has to be scrolled sideways: {measured:#}");
    assert!(measured["outside"].as_array().unwrap().is_empty(), "{measured:#}");
    assert!(measured["small"].as_array().unwrap().is_empty(), "{measured:#}");
    let tables = measured["tables"].as_array().unwrap();
    assert!(tables.len() >= 4, "{measured:#}");
    for table in tables {
        let (w, h) = (table[0].as_f64().unwrap(), table[1].as_f64().unwrap());
        assert!(w > width as f64 * 0.6 && w <= width as f64 && h > 30.0, "{measured:#}");
    }
}

#[test]
fn it_fits_a_desk_and_a_telephone_and_everything_is_there() {
    let world = busy();
    let (_serving, page) = page(&world);
    for (name, width, height) in [("page-desk", 1280, 1500), ("page-telephone", 390, 3200), ("page-small", 320, 3600)] {
        let measured = laid_out(&page, width, height, name);
        fits(&measured, width.into());
        let text = measured["text"].as_str().unwrap();
        for words in
            ["Backstay on test-host", "source tree of plan p failed", "Plans", "Last restores", "Upkeep", "Keys"]
        {
            assert!(text.contains(words), "{words} is not to be seen at {width}: {text}");
        }
    }
    let well = World::new();
    well.file("a.txt", b"x");
    well.backup();
    let (_serving, page) = self::page(&well);
    let measured = laid_out(&page, 390, 1600, "page-telephone-well");
    assert!(measured["scroll"].as_u64().unwrap() <= 390, "{measured:#}");
}

#[test]
fn it_is_whole_without_javascript() {
    let world = busy();
    let (serving, _) = page(&world);
    // What can be read of it is measured above, in a frame without scripts.
    let (whole, none) = (format!("http://{}/", serving.address), "about:blank");
    let (whole, none) = (without_scripts(&whole, "page-without-scripts"), without_scripts(none, "page-empty"));
    assert!(whole > 30_000 && whole > 5 * none, "{whole} bytes, and {none} of an empty page");
}
