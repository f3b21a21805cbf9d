//! What goes wrong is told, and leaves neither a backup nor a trace on the server.

use crate::backup::{by_socket, configure, stored, with_server};
use crate::fake::{Fake, Manner};
use crate::port::free_port;
use crate::restore::{restore, with_unit};
use crate::server::{PASSWORD, Server, words};
use crate::world::World;
use std::fs;
use std::process::Command;
use std::time::Duration;

fn by_port(s: &Server, scheme: &str, user: &str) -> String {
    format!("url = \"{scheme}://{user}localhost:{}\"\n", s.port)
}

/// The rules that the documents and the messages give.
const RULES: &str = "+psync +replconf +info +config|get";

#[test]
fn passwords_users_and_rights_are_checked_and_told() {
    let s = Server::start();
    s.good(&["SET", "a", "1"]);
    s.good(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let mut admin = s.socket().unwrap();
    admin.all([vec![b"AUTH".to_vec(), PASSWORD.as_bytes().to_vec()]]);
    let user = |name: &str, rules: &str| {
        let mut command = words(&format!("ACL SETUSER {name} reset on {rules}"));
        command.push(format!(">{PASSWORD}").into_bytes());
        command
    };
    admin.all([user("backup", RULES), user("weak", "+info +config|get"), user("blind", "+psync +replconf +info")]);
    let w = with_server(&by_port(&s, "redis", ""));
    w.run(&["backup"]).code(11).says(&["NOAUTH", "password_file"]);
    fs::write(w.at("pw"), format!("{PASSWORD}\n")).unwrap();
    let with = |user: &str| by_port(&s, "redis", user) + "password_file = \"pw\"\n";
    for good in ["", "default@", "backup@"] {
        configure(&w, &with(good));
        w.run(&["backup"]).code(0);
    }
    // Without the settings there is a backup, and a word about it.
    configure(&w, &with("blind@"));
    let m = w.backup();
    assert!(m["sources"][0]["warnings"][0].as_str().unwrap().contains("settings are not in the facts"), "{m}");
    configure(&w, &with("weak@"));
    let n = w.objects("backups").len();
    w.run(&["backup"]).code(11).says(&["refuses REPLCONF", "NOPERM", "ACL SETUSER NAME", RULES]);
    configure(&w, &with("nobody@"));
    w.run(&["backup"]).code(11).says(&["WRONGPASS", "Check the user"]);
    fs::write(w.at("pw"), "wrong\n").unwrap();
    configure(&w, &with("backup@"));
    w.run(&["backup"]).code(11).says(&["WRONGPASS"]);
    assert_eq!(w.objects("backups").len(), n);
}

#[test]
fn a_secret_is_in_no_argument_and_no_output() {
    let s = Server::start();
    s.good(&["CONFIG", "SET", "requirepass", PASSWORD]);
    let w = with_server(&by_port(&s, "redis", ""));
    fs::write(w.at("pw"), format!("{PASSWORD}\n")).unwrap();
    configure(&w, &(by_port(&s, "redis", "") + "password_file = \"pw\"\n"));
    let good = w.run(&["--json", "backup"]).code(0);
    fs::write(w.at("pw"), "also-secret\n").unwrap();
    let bad = w.run(&["backup"]).code(11);
    for text in [&good.out, &good.err, &bad.out, &bad.err] {
        assert!(!text.contains("p'ss") && !text.contains("also-secret"), "{text}");
    }
}

#[test]
fn a_server_that_allows_no_replication_is_told_with_the_rule() {
    let s = Server::with("rename-command PSYNC \"\"");
    let w = with_server(&by_socket(&s));
    w.run(&["backup"]).code(11).says(&["refuses PSYNC", "renamed or switched off", RULES]);
    let s = Server::with("rename-command CONFIG \"\"");
    s.good(&["SET", "a", "1"]);
    configure(&w, &by_socket(&s));
    let m = w.backup();
    assert!(m["sources"][0]["warnings"][0].as_str().unwrap().contains("settings are not in the facts"), "{m}");
    // A restore must know where the files are.
    configure(&w, &with_unit(&s));
    restore(&w, &s).code(10).says(&["CONFIG GET", "renamed or switched off", "+save"]);
    assert!(s.is_up());
}

/// Certificates of two authorities, for `localhost`.
fn certificates(w: &World) {
    let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca && \
         openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout other.key -out other-ca.pem -days 2 -subj /CN=other-ca && \
         printf 'subjectAltName=DNS:localhost' > ext && \
         for n in server client; do openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $n.key -out $n.csr -subj /CN=$n && \
         openssl x509 -req -in $n.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $n.pem -days 2 -extfile ext || exit 1; done";
    let out = Command::new("bash").args(["-c", script]).current_dir(w.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn tls_is_verified_with_our_own_certificate_too() {
    let w = with_server("url = \"redis://localhost:1\"\n");
    certificates(&w);
    let tls_port = free_port();
    let at = |f: &str| w.at(f);
    let s = Server::with(&format!(
        "tls-port {tls_port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
        at("server.pem"),
        at("server.key"),
        at("ca.pem")
    ));
    s.good(&["SET", "a", "1"]);
    let body = |ca: &str, host: &str, own: bool| {
        let own = if own { "tls_cert = \"client.pem\"\ntls_key = \"client.key\"\n" } else { "" };
        format!("url = \"rediss://{host}:{tls_port}\"\ntls_ca = \"{ca}\"\n{own}")
    };
    configure(&w, &body("ca.pem", "localhost", true));
    w.backup();
    for (bad, why) in [
        (body("other-ca.pem", "localhost", true), "certificate"),
        (body("ca.pem", "127.0.0.1", true), "certificate"),
        // The server asks for one of ours.
        (body("ca.pem", "localhost", false), "127.0.0.1"),
    ] {
        configure(&w, &bad);
        let ran = w.run(&["backup"]).code(11);
        assert!(ran.err.contains(why) || ran.err.contains("connection"), "{}", ran.err);
    }
    configure(&w, &body("ca.pem", "localhost", true).replace("rediss", "redis"));
    w.run(&["backup"]).code(3).says(&["rediss://"]);
    configure(&w, &body("ca.pem", "localhost", true).replace(&tls_port.to_string(), &s.port.to_string()));
    w.run(&["backup"]).code(11).says(&["TLS"]);
    assert_eq!(w.objects("backups").len(), 1);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let w = with_server("url = \"redis://127.0.0.1:1\"\n");
    w.run(&["backup"]).code(11).says(&["cannot connect", "127.0.0.1:1"]);
    configure(&w, "url = \"unix:///nowhere/redis.sock\"\n");
    w.run(&["backup"]).code(11).says(&["/nowhere/redis.sock"]);
    configure(&w, "url = \"redis://no-such-host.invalid\"\n");
    w.run(&["backup"]).code(11).says(&["no-such-host.invalid:6379"]);
    // Something else listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    configure(&w, &format!("url = \"redis://{}\"\n", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"220 mail.example ESMTP\r\n");
        }
    });
    w.run(&["backup"]).code(11).says(&["does not speak the protocol of Redis"]);
    assert!(w.objects("backups").is_empty());
}

#[test]
fn a_snapshot_that_is_not_whole_is_no_backup() {
    let w = with_server("url = \"redis://127.0.0.1:1\"\n");
    for (manner, says) in [
        (Manner::Flipped, "checksum is"),
        (Manner::Short, "it ends after"),
        (Manner::Broken, "the server closed it"),
        (Manner::NoMark, "the server closed it"),
        (Manner::Error, "Cannot allocate memory"),
    ] {
        let fake = Fake::start(manner);
        configure(&w, &fake.body());
        w.run(&["backup"]).code(11).says(&[says, "do:"]);
        assert!(w.objects("backups").is_empty(), "{manner:?}");
    }
    for (n, manner) in [Manner::Whole, Manner::Length].into_iter().enumerate() {
        let fake = Fake::start(manner);
        configure(&w, &fake.body());
        let m = w.backup();
        assert_eq!(m["sources"][0]["facts"]["redis"]["keyspaces"][0]["keys"], 1, "{manner:?}");
        assert_eq!(w.objects("backups").len(), n + 1);
    }
    // A newer server: what is not known is kept, by its checksum.
    let fake = Fake::start(Manner::Unknown);
    configure(&w, &fake.body());
    let m = w.backup();
    assert!(m["sources"][0]["warnings"][0].as_str().unwrap().contains("type 200"), "{m}");
    assert!(m["sources"][0]["facts"]["redis"]["keyspaces"].is_null());
    assert!(stored(&w).len() > 100_000);
    let fake = Fake::start(Manner::NoChecksum);
    configure(&w, &fake.body());
    let m = w.backup();
    assert!(m["sources"][0]["warnings"][0].as_str().unwrap().contains("rdbchecksum no"), "{m}");
}

#[test]
fn a_server_that_dies_in_the_middle_is_no_backup() {
    let s = Server::with("rdb-key-save-delay 100");
    let mut talk = s.socket().unwrap();
    talk.all((0..100_000).map(|i| words(&format!("SET key:{i} value-of-{i}"))));
    let w = with_server(&by_socket(&s));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The snapshot takes ten seconds; this is in its middle.
            while s.info("connected_slaves") != "1" {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::thread::sleep(Duration::from_millis(500));
            s.kill();
        });
        w.run(&["backup"]).code(11).says(&["connection to the server broke"]);
    });
    assert!(w.objects("backups").is_empty());
    s.launch();
    w.run(&["backup"]).code(0);
}

#[test]
fn a_replica_is_a_source_with_a_word_of_warning_unless_it_lost_its_primary() {
    let primary = Server::start();
    primary.good(&["SET", "a", "1"]);
    let s = Server::with(&format!("replicaof 127.0.0.1 {}", primary.port));
    while s.info("master_link_status") != "up" {
        std::thread::sleep(Duration::from_millis(50));
    }
    let w = with_server(&by_socket(&s));
    let m = w.backup();
    assert_eq!(m["sources"][0]["facts"]["redis"]["role"], "replica");
    assert!(m["sources"][0]["warnings"][0].as_str().unwrap().contains("this is a replica"), "{m}");
    primary.kill();
    while s.info("master_link_status") != "down" {
        std::thread::sleep(Duration::from_millis(50));
    }
    w.run(&["backup"]).code(11).says(&["lost its primary"]);
}

#[test]
fn a_sentinel_is_no_source() {
    let primary = Server::start();
    let conf = format!("sentinel monitor main 127.0.0.1 {} 1\n", primary.port);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let file = dir.path().join("sentinel.conf");
    fs::write(&file, format!("port 0\nunixsocket {}\n{conf}", socket.display())).unwrap();
    let port = free_port();
    fs::write(&file, format!("port {port}\n{conf}")).unwrap();
    let mut sentinel =
        Command::new("redis-server").arg(&file).arg("--sentinel").stdout(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let w = with_server(&format!("url = \"redis://127.0.0.1:{port}\"\n"));
    let ran = w.run(&["backup"]);
    // The real thing is seen from the server that it watches, too.
    configure(&w, &by_socket(&primary));
    w.backup();
    configure(&w, &with_unit(&primary));
    let restored = restore(&w, &primary);
    sentinel.kill().unwrap();
    sentinel.wait().unwrap();
    ran.code(11).says(&["Sentinel"]);
    restored.code(10).says(&["Sentinels watch"]);
}

#[test]
fn configuration_that_makes_no_sense_is_refused() {
    let w = with_server("url = \"redis://localhost\"\n");
    for (body, says) in [
        ("url = \"redis://localhost\"\nunit = \"a\"\ncontainer = \"b\"\n", "both `unit` and `container`"),
        ("url = \"rediss://localhost\"\ntls_cert = \"x\"\n", "belong together"),
        ("url = \"http://localhost\"\n", "none of redis, rediss and unix"),
        ("url = \"redis://localhost\"\npasword = \"x\"\n", "Did you mean `password`?"),
    ] {
        configure(&w, body);
        w.run(&["backup"]).code(3).says(&[says]);
    }
}
