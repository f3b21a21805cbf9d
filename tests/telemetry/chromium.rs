//! A headless Chromium: it lays a page out at a width, measures it, and takes pictures of it.
//!
//! The page stands in a frame of that width, since a window cannot be made as narrow as a telephone. The frame is one in
//! which no script runs; ours, which measures, is outside.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where pictures are left for whoever wants to look.
pub fn pictures() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pictures");
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

const MEASURE: &str = r#"
addEventListener('load', () => {
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  const width = root.clientWidth, boxes = [...page.body.querySelectorAll('*')].filter(e => e.getClientRects().length);
  const hidden = e => e.closest('thead') && getComputedStyle(e.closest('thead')).position === 'absolute';
  const outside = boxes.filter(e => e.getBoundingClientRect().right > width + 0.5 && !hidden(e));
  const shown = [...page.querySelectorAll('table')].map(t => { const r = t.getBoundingClientRect(); return [r.width, r.height]; });
  const small = boxes.filter(e => e.childNodes.length && parseFloat(page.defaultView.getComputedStyle(e).fontSize) < 11);
  document.getElementById('measured').textContent = JSON.stringify({
    width, scroll: root.scrollWidth, height: root.scrollHeight, tables: shown,
    outside: outside.map(e => e.outerHTML.slice(0, 120)), small: small.map(e => e.outerHTML.slice(0, 120)),
    text: page.body.innerText });
});
"#;

fn chromium(args: &[String]) -> String {
    chromium_with("{}", args)
}

/// With these preferences of its profile.
fn chromium_with(preferences: &str, args: &[String]) -> String {
    let profile = tempfile::tempdir().unwrap();
    std::fs::create_dir(profile.path().join("Default")).unwrap();
    std::fs::write(profile.path().join("Default/Preferences"), preferences).unwrap();
    let out = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
        .arg("--virtual-time-budget=3000")
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(args)
        .output();
    let out = out.unwrap_or_else(|e| panic!("chromium: {e}: run tests/setup.sh test (Debian package chromium)"));
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Lays a page out at this width, leaves a picture of it, and gives what was measured.
pub fn laid_out(page: &str, width: u32, height: u32, name: &str) -> serde_json::Value {
    let quoted = page.replace('&', "&amp;").replace('"', "&quot;");
    let around = format!(
        "<!doctype html><meta charset=\"utf-8\"><style>body {{ margin: 0 }} iframe {{ border: 0; display: block }} #measured {{ display: none }}</style>\
         <iframe sandbox=\"allow-same-origin\" width=\"{width}\" height=\"{height}\" srcdoc=\"{quoted}\"></iframe>\
         <p id=\"measured\"></p><script>{MEASURE}</script>"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("page.html");
    std::fs::write(&file, around).unwrap();
    let url = format!("file://{}", file.display());
    let picture = pictures().join(format!("{name}.png"));
    let _ = std::fs::remove_file(&picture);
    let size = format!("--window-size={},{height}", width.max(500));
    chromium(&[format!("--screenshot={}", picture.display()), size.clone(), url.clone()]);
    assert!(picture.metadata().is_ok_and(|m| m.len() > 1000), "no picture in {}", picture.display());
    let dom = chromium(&["--dump-dom".to_owned(), size, url]);
    let (_, rest) = dom.split_once("<p id=\"measured\">").unwrap_or_else(|| panic!("{dom}"));
    let text = rest.split_once("</p>").unwrap().0;
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u{a0}").replace("&amp;", "&");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Leaves a picture of what a browser without JavaScript shows of an address, and gives how much there is in it. An empty
/// page is a few kilobytes.
pub fn without_scripts(url: &str, name: &str) -> u64 {
    let picture = pictures().join(format!("{name}.png"));
    let _ = std::fs::remove_file(&picture);
    let shot = format!("--screenshot={}", picture.display());
    let size = "--window-size=1000,1400".to_owned();
    // For pages only: what takes the picture is a script of the browser's own.
    let preferences = r#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#;
    chromium_with(preferences, &[size, shot, url.to_owned()]);
    picture.metadata().map_or(0, |m| m.len())
}
