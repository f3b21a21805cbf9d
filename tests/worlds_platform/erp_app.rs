//! The application of the ERP: a health check, a login by form with a token and cookies, a dashboard. Every answer asks
//! the database, so what is restored shows at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

/// The variable that makes a server of the test below.
pub const PORT: &str = "ERP_APP_PORT";
const TOKEN: &str = "a-token-of-this-form";
const SESSION: &str = "sessionid=of-the-smoke-test";

fn psql(statement: &str) -> Option<String> {
    let out = Command::new("/usr/lib/postgresql/15/bin/psql")
        .args(["-XAtq", "-U", "erp_app", "-d", "erpdb", "-c", statement])
        .output()
        .ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

#[test]
fn server() {
    let Ok(port) = std::env::var(PORT) else { return };
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

fn answer(stream: TcpStream) -> Option<()> {
    let mut reader = BufReader::new(&stream);
    let (mut first, mut cookies, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).ok()?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "cookie" => cookies = value.to_owned(),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let (method, path) = first.split_once(' ')?;
    let (head, text) = page(method, path.split(' ').next()?, &cookies, &body);
    write!(&stream, "HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len()).ok()
}

fn page(method: &str, path: &str, cookies: &str, form: &str) -> (String, String) {
    let found = |to: &str, cookie: &str| (format!("302 Found\r\nLocation: {to}{cookie}"), String::new());
    match (method, path) {
        (_, "/api/v1/health/") => match psql("SELECT 1 FROM usermanagement_customuser LIMIT 1") {
            Some(_) => ("200 OK\r\nContent-Type: application/json".into(), r#"{"status":"ok"}"#.into()),
            None => ("500 Internal Server Error".into(), r#"{"status":"bad"}"#.into()),
        },
        ("GET", "/accounts/login/") => (
            format!("200 OK\r\nContent-Type: text/html\r\nSet-Cookie: csrftoken={TOKEN}; Path=/"),
            format!(
                "<form method=post><input type=hidden name=csrfmiddlewaretoken value=\"{TOKEN}\"><input name=username><input type=password name=password></form>"
            ),
        ),
        ("POST", "/accounts/login/") => {
            let field =
                |name: &str| form.split('&').find_map(|f| f.strip_prefix(&format!("{name}="))).unwrap_or_default();
            let known = psql(&format!(
                "SELECT 1 FROM usermanagement_customuser WHERE username = 'smoke-test' AND password = md5('{}')",
                field("password").replace(|c: char| !c.is_ascii_alphanumeric(), "")
            ));
            let whole =
                field("csrfmiddlewaretoken") == TOKEN && cookies.contains(TOKEN) && field("username") == "smoke-test";
            match known.as_deref() {
                Some("1") if whole => found("/", &format!("\r\nSet-Cookie: {SESSION}; Path=/")),
                _ => (
                    "200 OK\r\nContent-Type: text/html".into(),
                    "<form><input type=password name=password></form>".into(),
                ),
            }
        }
        ("GET", "/") if cookies.contains(SESSION) => {
            let rows = psql("SELECT count(*) FROM accounting_journalentry").unwrap_or_default();
            ("200 OK\r\nContent-Type: text/html".into(), format!("<h1>Dashboard</h1> {rows} entries"))
        }
        ("GET", "/") => found("/accounts/login/", ""),
        _ => ("404 Not Found".into(), String::new()),
    }
}
