//! `config/examples/aimms.toml`: a cluster in a container whose volume is external, dumped each night by `pg_dumpall | gzip`, seven days
//! kept. The whole cluster, one database of it, and a volume that was made from scratch.

use crate::boxes::Boxes;
use crate::examples::{configure, example};
use crate::machine::Machine;
use crate::world::World;
use crate::{reconfigure, script, shipped, took};
use std::fs;

const USER: &str = "aimms_user";

/// The application on a host.
struct Aimms {
    boxes: Boxes,
    world: World,
    db: String,
    web: String,
    data: String,
    cache: String,
}

impl Aimms {
    fn new() -> Self {
        let (boxes, world) = (Boxes::new(None), World::bare());
        for dir in ["postgres-backups", "aimms-web"] {
            fs::create_dir(world.at(dir)).unwrap();
        }
        let volume = |what: &str| {
            let name = boxes.stage.name(what);
            boxes.stage.docker(&["volume", "create", &name]);
            name
        };
        let (data, cache) = (volume("aimms_postgres_data_prod"), volume("aimms_redis_data_prod"));
        let (db, web) = (boxes.stage.name("aimms-web-postgres-1"), boxes.stage.name("aimms-web-web-1"));
        let aimms = Aimms { boxes, world, db, web, data, cache };
        aimms.up();
        aimms.sql("postgres", "CREATE DATABASE aimms_jobs");
        aimms.sql("postgres", "CREATE ROLE reporting LOGIN PASSWORD 'only to read'");
        aimms.sql(
            "aimms_web",
            "CREATE TABLE runs (id serial PRIMARY KEY, at timestamptz DEFAULT '2026-01-01Z', log text)",
        );
        aimms.sql(
            "aimms_web",
            "INSERT INTO runs (log) SELECT md5(g::text) || md5((g + 1)::text) FROM generate_series(1, 100000) g",
        );
        aimms.sql("aimms_web", "GRANT SELECT ON runs TO reporting");
        aimms.sql("aimms_jobs", "CREATE TABLE job (id int PRIMARY KEY, state text); INSERT INTO job SELECT g, 'done' FROM generate_series(1, 500) g");
        aimms.configure();
        aimms
    }

    /// Starts what compose would start.
    fn up(&self) {
        let dir = self.world.at("aimms-web");
        let project = self.boxes.stage.name("aimms-web");
        let labels = |service: &str, needs: &str| self.boxes.labels(&project, &dir, service, needs);
        let mut options = labels("postgres", "");
        options.extend(["-v".to_owned(), format!("{}:/var/lib/postgresql/data", self.data)]);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        self.boxes.postgres("aimms-web-postgres-1", 15, USER, "aimms_web", &options);
        let mut cache = labels("redis", "");
        cache.extend(["-v".to_owned(), format!("{}:/data", self.cache)]);
        for (what, options) in
            [("aimms-web-redis-1", cache), ("aimms-web-web-1", labels("web", "postgres:service_started:true"))]
        {
            self.boxes.stage.container(what, &options.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    /// Removes the containers, as `docker-compose down` does.
    fn down(&self) {
        let redis = self.boxes.stage.name("aimms-web-redis-1");
        self.boxes.stage.docker(&["rm", "-f", &self.web, &redis, &self.db]);
    }

    fn configure(&self) {
        let w = &self.world;
        configure(
            w,
            "aimms.toml",
            &[
                ("aimms-web-postgres-1", self.db.clone()),
                ("aimms-web-web-1", self.web.clone()),
                ("/home/ec2-user/postgres-backups", w.at("postgres-backups")),
                ("/home/ec2-user/aimms-web", w.at("aimms-web")),
            ],
        );
    }

    /// What the cron job does.
    fn backup(&self, time: &str) {
        let file = format!("aimms_postgres_{time}.sql.gz");
        let line = format!(
            "docker exec {} pg_dumpall -U {USER} | gzip > {file}; find . -name 'aimms_postgres_*' -mtime +7 -delete",
            self.db
        );
        script(&self.world, "postgres-backups", &line);
    }

    #[track_caller]
    fn sql(&self, database: &str, sql: &str) -> String {
        self.boxes.sql(&self.db, USER, database, sql)
    }

    /// Both databases, and who may log in with what.
    #[track_caller]
    fn state(&self) -> [String; 3] {
        let content = |database| self.boxes.content(&self.db, USER, database);
        let roles = self.sql("postgres", "SELECT string_agg(concat(rolname, rolcanlogin, rolpassword), ',' ORDER BY rolname) FROM pg_authid WHERE rolname !~ '^pg_'");
        [content("aimms_web"), content("aimms_jobs"), roles]
    }

    /// The volumes, and when they were made.
    fn volumes(&self) -> String {
        self.boxes.stage.docker(&[
            "volume",
            "inspect",
            "-f",
            "{{.Name}} {{.CreatedAt}} {{.Mountpoint}}",
            &self.data,
            &self.cache,
        ])
    }
}

#[test]
fn the_cluster_or_one_database_of_it_comes_back_and_no_volume_is_touched() {
    let a = Aimms::new();
    let w = &a.world;
    a.backup("20260109_020000");
    a.sql("aimms_web", "INSERT INTO runs (log) VALUES ('of the second day')");
    a.backup("20260110_020000");
    let (good, volumes) = (a.state(), a.volumes());
    // Read to the end, not the first hundred lines: one that is cut is told.
    w.run(&["check", "--foreign"]).code(0).says(&[
        "20260110_020000",
        "database aimms_web, 1 table, 100,001 rows",
        "database aimms_jobs",
    ]);
    script(
        w,
        "postgres-backups",
        "head -c 200000 aimms_postgres_20260110_020000.sql.gz > aimms_postgres_20260111_020000.sql.gz",
    );
    w.run(&["check", "--foreign"])
        .code(7)
        .says(&["aimms_postgres_20260111_020000.sql.gz", "the gzip data is cut short"]);
    let cut = "zcat aimms_postgres_20260110_020000.sql.gz | head -n -3 | gzip > aimms_postgres_20260111_020000.sql.gz";
    script(w, "postgres-backups", cut);
    w.run(&["restore", "--foreign", "dumps", "--yes"]).code(7).says(&["the end marker of a cluster dump is missing"]);
    assert_eq!(a.state(), good);
    script(w, "postgres-backups", "rm aimms_postgres_20260111_020000.sql.gz");

    // Both databases are wrong, and a role has gone.
    a.sql("aimms_web", "DELETE FROM runs WHERE id > 5; DROP OWNED BY reporting");
    a.sql("postgres", "DROP ROLE reporting");
    a.sql("aimms_jobs", "UPDATE job SET state = 'failed'");
    let wrong = a.state();
    // One of them alone; the other one, and what else the dump would do to the cluster, is left alone.
    w.run(&["restore", "--foreign", "dumps", "--database", "aimms_web", "--yes"])
        .code(0)
        .says(&["roles that the server lacks will be made: reporting"]);
    took(w, "AIMMS, one database");
    assert_eq!(a.state(), [good[0].clone(), wrong[1].clone(), good[2].clone()]);
    assert!(a.boxes.runs(&a.web));
    // All of it.
    w.run(&["restore", "--foreign", "dumps", "--yes"]).code(0);
    took(w, "AIMMS, all databases");
    assert_eq!(a.state(), good);
    // Back to what was there before, and an older one.
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(a.state()[1], wrong[1]);
    w.run(&["restore", "--foreign", "dumps", "20260109", "--yes"]).code(0);
    assert_eq!(a.sql("aimms_web", "SELECT count(*) FROM runs"), "100000");
    // A copy to look into, beside.
    w.run(&["restore", "--foreign", "dumps", "--database", "aimms_web", "--to", "aimms_look"]).code(0);
    assert_eq!(a.sql("aimms_look", "SELECT count(*) FROM runs"), "100001");
    assert_eq!(a.volumes(), volumes);
    assert_eq!(a.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname ~ '^postgres'"), "1");
}

#[test]
fn a_volume_made_from_scratch_is_filled_and_seven_days_are_kept() {
    let a = Aimms::new();
    let w = &a.world;
    for day in 3..=9 {
        a.sql("aimms_jobs", &format!("INSERT INTO job VALUES (1000 + {day}, 'done')"));
        a.backup(&format!("2026010{day}_020000"));
    }
    let (good, cache) = (a.state(), a.cache.clone());
    fs::write(format!("{}/dump.rdb", mountpoint(&a, &cache)), "cached").unwrap();
    // The server's files are gone with their volume; a new one is made, and the server begins anew.
    a.down();
    a.boxes.stage.docker(&["volume", "rm", &a.data]);
    a.boxes.stage.docker(&["volume", "create", &a.data]);
    a.up();
    assert_eq!(a.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'aimms%'"), "1");
    w.run(&["restore", "--foreign", "dumps", "--yes"]).code(0);
    took(w, "AIMMS, a cluster made from scratch");
    assert_eq!(a.state(), good);
    assert_eq!(a.sql("postgres", "SELECT rolpassword IS NOT NULL FROM pg_authid WHERE rolname = 'reporting'"), "t");
    assert_eq!(fs::read_to_string(format!("{}/dump.rdb", mountpoint(&a, &cache))).unwrap(), "cached");

    // A week of history moves along; days share what did not change.
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.run(&["import", "dumps", "--all"]).code(0);
    let all = w.run(&["--json", "list"]).code(0).json();
    let all = all.as_array().unwrap();
    assert_eq!((all.len(), all[0]["started"].as_str()), (7, Some("2026-01-03T02:00:00Z")));
    assert!(shipped(&all[6]) * 4 < shipped(&all[0]), "{} after {}", shipped(&all[6]), shipped(&all[0]));
    // And so does the first nightly backup, although it is no dump in SQL.
    a.sql("aimms_jobs", "INSERT INTO job VALUES (2000, 'done')");
    let nightly = w.backup();
    crate::figure(&format!(
        "shipped: {} by the first import, {} by the first nightly backup",
        shipped(&all[0]),
        shipped(&nightly)
    ));
    // In so little data the pieces at the beginnings of tables, which have numbers of their own in each archive, count much.
    assert!(shipped(&nightly) * 2 < shipped(&all[0]), "{} after {}", shipped(&nightly), shipped(&all[0]));
    // Seven days, as before; the script's own files are nobody's to delete.
    w.run(&["forget"]).code(0);
    let kept = w.run(&["--json", "list"]).code(0).json();
    let days: Vec<String> =
        kept.as_array().unwrap().iter().map(|m| m["started"].as_str().unwrap()[..10].to_owned()).collect();
    assert_eq!(days[..6], ["2026-01-04", "2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08", "2026-01-09"]);
    assert_eq!(days.len(), 7, "{days:?}");
    assert_eq!(fs::read_dir(w.at("postgres-backups")).unwrap().count(), 7);
    // One of a day that was imported, as any other.
    w.run(&["restore", "--at", "2026-01-05T12:00:00Z", "--yes"]).code(0);
    assert_eq!(a.sql("aimms_jobs", "SELECT count(*) FROM job"), "503");
    // In local time the same names would mean another moment.
    reconfigure(w, "timezone = \"UTC\"", "timezone = \"America/New_York\"");
    assert_eq!(w.run(&["--json", "list", "--foreign"]).code(0).json()[0]["time"], "2026-01-03T07:00:00Z");
}

fn mountpoint(a: &Aimms, volume: &str) -> String {
    a.boxes.stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume])
}

#[test]
fn the_line_in_the_crontab_gives_way_to_a_timer() {
    let mut machine = Machine::off("aimms");
    let units = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    for unit in fs::read_dir(units).unwrap().map(|e| e.unwrap().path()) {
        let text = fs::read_to_string(&unit).unwrap().replace("/usr/bin/backstay", "/usr/local/bin/backstay");
        machine.write(&format!("/usr/local/lib/systemd/system/{}", unit.file_name().unwrap().to_str().unwrap()), &text);
    }
    machine.write("/etc/backstay/backstay.toml", &example("aimms.toml"));
    machine.write("/root/crontab", "0 2 * * * /home/ec2-user/backup-postgres.sh >> /home/ec2-user/postgres-backup.log 2>&1\n15 4 * * * /bin/true\n");
    machine.start();
    machine.sh("crontab /root/crontab");
    let told = machine.run(&["backstay", "timer", "enable", "aimms", "--at", "02:00 UTC", "--spread", "0s"]);
    assert!(told.contains("enabled backstay-backup@aimms.timer"), "{told}");
    machine.sh("crontab -l | grep -v backup-postgres.sh | crontab -");
    assert_eq!(machine.sh("crontab -l"), "15 4 * * * /bin/true");
    let listed: serde_json::Value =
        serde_json::from_str(&machine.run(&["backstay", "--json", "timer", "list"])).unwrap();
    let ours = listed.as_array().unwrap().iter().find(|t| t["unit"] == "backstay-backup@aimms.timer").unwrap();
    assert_eq!(ours["enabled"], true, "{ours}");
    assert_eq!(ours["next"].as_str().unwrap().split('T').nth(1), Some("02:00:00Z"), "{ours}");
}
