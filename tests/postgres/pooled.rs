//! A pgbouncer where the server should be is told by name, before anything goes through it.

use crate::cluster::Cluster;
use crate::port::free_port;
use crate::round_trip::{SOCKET, configure, with_database};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A pgbouncer of Debian's package before a cluster.
struct Bouncer {
    child: Child,
    port: u16,
}

impl Bouncer {
    fn start(c: &Cluster, mode: &str, admin: &str) -> Self {
        let port = free_port();
        let config = format!(
            "[databases]\n* = host={0} port={1} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = trust\nauth_file = {0}/users\npool_mode = {mode}\nadmin_users = {admin}\n",
            c.path("").trim_end_matches('/'),
            c.port
        );
        let password = crate::cluster::PASSWORD.replace('"', "\"\"");
        std::fs::write(c.path("users"), format!("\"postgres\" \"{password}\"\n")).unwrap();
        std::fs::write(c.path("bouncer.ini"), config).unwrap();
        let child = Command::new("runuser")
            .args(["-u", "postgres", "--", "/usr/sbin/pgbouncer", &c.path("bouncer.ini")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(started, "pgbouncer does not start: apt-get install pgbouncer");
        Bouncer { child, port }
    }

    fn url(&self) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/erp?sslmode=disable", self.port)
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // runuser hands on this signal, and not a kill.
        let _ = Command::new("kill").arg(self.child.id().to_string()).output();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pooler_is_refused_by_name_in_every_mode() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 100) AS x");
    let mut w = with_database(&c, SOCKET);
    w.backup();
    let count = w.objects("backups").len();
    for (mode, admin, says) in
        [("transaction", "postgres", "PgBouncer 1."), ("session", "nobody", "does not tell its version")]
    {
        let bouncer = Bouncer::start(&c, mode, admin);
        configure(&w, &c, &bouncer.url());
        w.run(&["backup"]).code(10).says(&["is a pgbouncer and not a PostgreSQL server", says, "url"]);
        w.run(&["restore", "--to", "copy"]).code(10).says(&["is a pgbouncer", says]);
        w.run(&["restore", "--yes", "--table", "t"]).code(10).says(&["is a pgbouncer", says]);
        // As another user nobody is asked, and the session itself is refused.
        w.extra = "os_user = \"postgres\"".into();
        configure(&w, &c, &bouncer.url());
        w.run(&["backup"]).code(10).says(&["is a pgbouncer", "unsupported startup parameter", "url"]);
        w.extra.clear();
        assert_eq!(w.objects("backups").len(), count);
    }
    // A database that has the name of the pooler's own is no pooler.
    c.psql("postgres", "CREATE DATABASE pgbouncer");
    configure(&w, &c, SOCKET);
    w.run(&["backup"]).code(0);
}
