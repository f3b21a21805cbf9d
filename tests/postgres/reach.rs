//! The ways to a server: client certificates, password files, and clients that run as another user.

use crate::cluster::{Cluster, PASSWORD};
use crate::round_trip::{SOCKET, configure, with_database};
use crate::world::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

fn filled(hba: &str) -> Cluster {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 3000) g");
    if !hba.is_empty() {
        let all = format!("{hba}\nlocal all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n");
        fs::write(c.path("data/pg_hba.conf"), all).unwrap();
        c.restart();
    }
    c
}

#[test]
fn a_password_comes_from_libpqs_own_file_for_us_and_for_its_tools() {
    let c = filled("");
    let mut w = with_database(&c, SOCKET);
    let passfile = w.at("passfile");
    let password = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
    fs::write(&passfile, format!("# comment\nother:*:*:*:no\n*:{}:*:postgres:{password}\n", c.port)).unwrap();
    w.extra = "big_tables = \"1KiB\"".into();
    let url = format!("{SOCKET}&passfile={passfile}");
    let without_password = |w: &crate::world::World| {
        configure(w, &c, &url);
        let config = fs::read_to_string(w.at("backstay.toml")).unwrap();
        w.write_config(&config.replace("password_file = \"pg.password\"\n", ""));
    };
    without_password(&w);
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    w.run(&["backup"]).code(11);
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", "copy"]).code(0);
}

#[test]
fn a_client_certificate_opens_a_server_that_asks_for_one() {
    let c = filled("hostssl all postgres 127.0.0.1/32 cert clientcert=verify-full");
    c.client_certificate("postgres");
    c.psql("postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{}'", c.path("ca.pem")));
    c.restart();
    let mut w = with_database(&c, SOCKET);
    w.extra = "big_tables = \"1KiB\"".into();
    let url = "postgresql://postgres@localhost:PORT/erp?sslmode=verify-full&sslrootcert=CLUSTERca.pem";
    configure(&w, &c, url);
    w.run(&["backup"]).code(11).says(&["certificate"]);
    configure(&w, &c, &format!("{url}&sslcert=CLUSTERclient.pem&sslkey=CLUSTERclient.key"));
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", "copy"]).code(0);
    configure(&w, &c, &format!("{url}&sslcert=CLUSTERclient.pem"));
    w.run(&["backup"]).code(3).says(&["sslcert and sslkey go together"]);
}

/// The server gets a certificate for its name, signed by another CA than `ca.pem`.
fn signed_by_another(c: &Cluster) {
    let sign = "openssl x509 -req -in server.csr -CA other-ca.pem -CAkey other.key -CAcreateserial \
                -out server.pem -days 2 -extfile ext";
    let signed = Command::new("sh").args(["-c", sign]).current_dir(c.path("")).output().unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    c.restart();
}

/// A home directory with these files of libpq's.
fn home(w: &World, name: &str, files: &[(&str, String)]) -> String {
    let home = w.at(name);
    let libpq = PathBuf::from(&home).join(".postgresql");
    fs::create_dir_all(&libpq).unwrap();
    for (file, from) in files {
        fs::copy(from, libpq.join(file)).unwrap();
        fs::set_permissions(libpq.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    home
}

/// The system trusts the one who signed the server's certificate. The source names another, and must trust nobody else.
#[test]
fn a_root_certificate_that_is_named_is_the_only_one_that_counts() {
    let c = filled("");
    signed_by_another(&c);
    let w = with_database(&c, SOCKET);
    let system = c.path("other-ca.pem");
    let backup = || crate::world::run(w.command(&["backup"]).env("SSL_CERT_FILE", &system));
    for mode in ["require", "verify-ca", "verify-full"] {
        let url = format!("postgresql://postgres@localhost:PORT/erp?sslmode={mode}&sslrootcert=CLUSTERca.pem");
        configure(&w, &c, &url);
        backup().code(11).says(&["cannot connect to the database", "certificate verify failed"]);
        configure(&w, &c, &url.replace("CLUSTERca.pem", "CLUSTERother-ca.pem"));
        backup().code(0);
    }
}

/// The system trusts the one who signed the server's certificate; `pg_dump` does not take its word unasked.
#[test]
fn what_verifies_is_refused_without_a_root_certificate_unless_those_of_the_system_are_named() {
    let c = filled("");
    let w = with_database(&c, SOCKET);
    let nothing = home(&w, "nothing", &[]);
    let backup = || {
        let mut command = w.command(&["backup"]);
        crate::world::run(command.env("HOME", &nothing).env("SSL_CERT_FILE", c.path("ca.pem")))
    };
    for mode in ["verify-ca", "verify-full"] {
        let url = format!("postgresql://postgres@localhost:PORT/erp?sslmode={mode}");
        configure(&w, &c, &url);
        backup().code(11).says(&[&format!("sslmode={mode} needs a root certificate"), "sslrootcert=system"]);
        configure(&w, &c, &format!("{url}&sslrootcert=system"));
        let named = backup();
        assert!(!named.err.contains("needs a root certificate"), "{}", named.err);
    }
}

#[test]
fn the_files_of_libpqs_directory_count_for_us_too() {
    let c = filled("hostssl all postgres 127.0.0.1/32 cert clientcert=verify-full");
    c.client_certificate("postgres");
    c.psql("postgres", &format!("ALTER SYSTEM SET ssl_ca_file = '{}'", c.path("ca.pem")));
    c.restart();
    let w = with_database(&c, SOCKET);
    let backup = |home: &str| crate::world::run(w.command(&["backup"]).env("HOME", home));
    let client = || [("postgresql.crt", c.path("client.pem")), ("postgresql.key", c.path("client.key"))];
    let root = |file: &str| [&client()[..], &[("root.crt", c.path(file))]].concat();
    configure(&w, &c, "postgresql://postgres@localhost:PORT/erp?sslmode=verify-full");
    backup(&home(&w, "whole", &root("ca.pem"))).code(0);
    configure(&w, &c, "postgresql://postgres@localhost:PORT/erp?sslmode=require");
    backup(&home(&w, "client", &client())).code(0);
    backup(&home(&w, "nothing", &[])).code(11).says(&["certificate"]);
    // With a root certificate at hand `require` verifies.
    let wrong = home(&w, "wrong", &root("other-ca.pem"));
    backup(&wrong).code(11).says(&["cannot connect to the database", "certificate verify failed"]);
}

#[test]
fn prefer_goes_without_tls_where_the_server_takes_nobody_over_it() {
    let c = filled("hostssl all all 127.0.0.1/32 reject");
    let mut w = with_database(&c, SOCKET);
    w.extra = "big_tables = \"1KiB\"".into();
    let url = "postgresql://postgres@127.0.0.1:PORT/erp";
    configure(&w, &c, url);
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", "copy"]).code(0);
    configure(&w, &c, &format!("{url}?sslmode=require"));
    w.run(&["backup"]).code(11).says(&["pg_hba.conf"]);
}

#[test]
fn clients_on_this_host_run_as_the_user_that_the_source_names() {
    let c = filled("local all postgres peer");
    let mut w = with_database(&c, SOCKET);
    w.run(&["backup"]).code(11).says(&["Peer authentication failed"]);
    w.extra = "os_user = \"postgres\"\nbig_tables = \"1KiB\"".into();
    configure(&w, &c, SOCKET);
    w.backup();
    w.run(&["restore", "--yes"]).code(0).says(&["3,000 rows", "erp_before_"]);
    w.extra = "os_user = \"nobody-of-that-name\"".into();
    configure(&w, &c, SOCKET);
    w.run(&["backup"]).code(11).says(&["nobody-of-that-name"]);
}

#[test]
fn patterns_pick_databases_and_never_what_a_restore_keeps() {
    let c = filled("");
    for name in ["app_one", "app_two", "other"] {
        c.psql("postgres", &format!("CREATE DATABASE {name}"));
    }
    let mut w = with_database(&c, SOCKET);
    let names = |m: &serde_json::Value| -> Vec<String> {
        let all = m["sources"][0]["artifacts"].as_array().unwrap();
        all.iter().map(|a| a["name"].as_str().unwrap().to_owned()).filter(|n| n != "globals").collect()
    };
    w.extra = "databases = [\"erp\", \"app_*\"]\nexclude_databases = [\"*_two\"]".into();
    configure(&w, &c, SOCKET);
    assert_eq!(names(&w.backup()), ["db:erp", "db:app_one"]);
    w.run(&["restore", "--yes", "--database", "erp"]).code(0).says(&["erp_before_"]);
    // Somebody looks into what was kept; it is nobody's data all the same.
    let kept = c.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'erp_before_%'");
    c.psql("postgres", &format!("ALTER DATABASE \"{kept}\" ALLOW_CONNECTIONS true"));
    w.extra = "databases = \"all\"".into();
    configure(&w, &c, SOCKET);
    assert_eq!(names(&w.backup()), ["db:app_one", "db:app_two", "db:erp", "db:other", "db:postgres"]);
    w.extra = "databases = [\"e*\"]".into();
    configure(&w, &c, SOCKET);
    assert_eq!(names(&w.backup()), ["db:erp"]);
    w.extra = "databases = [\"nothing*\"]".into();
    configure(&w, &c, SOCKET);
    w.run(&["backup"]).code(11).says(&["no database fits", "app_one"]);
    w.extra = "databases = [\"gone\"]".into();
    configure(&w, &c, SOCKET);
    w.run(&["backup"]).code(11).says(&["gone"]);
}
