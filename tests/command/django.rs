//! `config/examples/django.toml` with the real Django and the real PostgreSQL.

use crate::cluster::{Cluster, PASSWORD};
use crate::with_example_in;
use crate::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;

const SETTINGS: &str = r#"
import os
SECRET_KEY = "x"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "docs"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
# Connection settings other than the name come from libpq's own variables.
DATABASES = {"default": {
    "ENGINE": "django.db.backends.postgresql", "NAME": os.environ["POSTGRES_DB"],
    "USER": os.environ["PGUSER"], "PASSWORD": os.environ["PGPASSWORD"],
    "HOST": os.environ["PGHOST"], "PORT": os.environ["PGPORT"],
}}
"#;
const MODELS: &str = r#"
import uuid
from django.db import models
class Document(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    title = models.TextField()
    owner = models.ForeignKey("auth.User", on_delete=models.PROTECT)
class Step(models.Model):
    document = models.ForeignKey(Document, on_delete=models.CASCADE)
    name = models.TextField()
"#;
const MANAGE: &str = "import os, sys\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'edms.settings')\nfrom django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n";

struct Site {
    c: Cluster,
    w: World,
    python: String,
}

impl Site {
    fn new() -> Self {
        let c = Cluster::start();
        c.psql("postgres", &format!("CREATE ROLE edms LOGIN PASSWORD '{}'", PASSWORD.replace('\'', "''")));
        c.psql("postgres", "CREATE DATABASE edms OWNER edms");
        let home = std::env::var("HOME").unwrap();
        let python = format!("{home}/.cache/backstay-tools/django/bin/python");
        assert!(Path::new(&python).exists(), "Django is not installed: tests/setup.sh test");
        let server = format!("postgresql://postgres@127.0.0.1:{}/edms", c.port);
        let w = World::bare();
        let project = w.at("project");
        fs::write(w.at("postgres.password"), PASSWORD).unwrap();
        let w = with_example_in(
            w,
            "django.toml",
            &[
                ("/opt/edms/venv/bin/python", python.clone()),
                ("/opt/edms", project),
                ("postgresql://postgres@localhost:5432/edms", server),
            ],
        );
        for dir in ["edms", "docs/migrations"] {
            fs::create_dir_all(w.path().join("project").join(dir)).unwrap();
        }
        for (file, text) in [
            ("manage.py", MANAGE),
            ("edms/__init__.py", ""),
            ("edms/settings.py", SETTINGS),
            ("docs/__init__.py", ""),
            ("docs/migrations/__init__.py", ""),
            ("docs/models.py", MODELS),
        ] {
            fs::write(w.path().join("project").join(file), text).unwrap();
        }
        let site = Site { c, w, python };
        site.manage(&["makemigrations", "docs"]);
        site.manage(&["migrate"]);
        site.manage(&["shell", "-v", "0", "-c", "from django.contrib.auth.models import User, Group; from docs.models import Document, Step
u = User.objects.create_superuser('anna', 'a@example.org', 'x'); u.groups.add(Group.objects.create(name='approvers'))
for i in range(200):
    d = Document.objects.create(title=f'Prüfung {i}', owner=u); Step.objects.create(document=d, name='a'); Step.objects.create(document=d, name='b')"]);
        site
    }

    #[track_caller]
    fn manage(&self, args: &[&str]) -> String {
        let out = Command::new(&self.python)
            .arg("manage.py")
            .args(args)
            .current_dir(self.w.at("project"))
            .envs([("POSTGRES_DB", "edms"), ("PGUSER", "edms"), ("PGPASSWORD", PASSWORD), ("PGHOST", "127.0.0.1")])
            .env("PGPORT", self.c.port.to_string())
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn fixtures(&self) -> String {
        self.manage(&[
            "dumpdata",
            "--natural-foreign",
            "--natural-primary",
            "-e",
            "contenttypes",
            "-e",
            "auth.permission",
        ])
    }

    fn databases(&self) -> String {
        self.c.psql(
            "postgres",
            "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE NOT datistemplate",
        )
    }
}

#[test]
fn the_example_brings_a_project_back_through_a_database_beside_the_live_one() {
    let site = Site::new();
    let (c, w) = (&site.c, &site.w);
    let before = site.fixtures();
    w.backup();
    c.psql("edms", "DELETE FROM docs_step; DELETE FROM docs_document WHERE title LIKE '%7%'; UPDATE auth_user SET username = 'eve'");
    let since = site.fixtures();
    w.run(&["restore", "--dry-run"]).code(0).says(&["stage database edms of source fixtures", "`prepare` makes"]);
    let told = w.run(&["--json", "restore", "--yes"]).code(0).json();
    let line = |what: &str| told["verified"].as_array().unwrap().iter().find(|l| l["what"] == what).cloned().unwrap();
    assert_eq!(line("edms: table public.docs_step")["found"], "400 rows");
    assert_eq!(line("fixtures: `verify`")["found"], "exit status 0");
    assert!(told["previous"][0]["name"].as_str().unwrap().contains("edms_before_"), "{told}");
    assert_eq!(site.fixtures(), before);
    // The application can go on: everything belongs to its role, and new rows get keys that are free.
    assert_eq!(c.psql("edms", "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"), "edms");
    site.manage(&[
        "shell",
        "-v",
        "0",
        "-c",
        "from docs.models import *; Step.objects.create(document=Document.objects.first(), name='new')",
    ]);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_db_role_setting"), "0");
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(site.fixtures(), since);
}

#[test]
fn it_is_of_one_moment_while_the_application_writes() {
    let site = Site::new();
    let (c, w) = (&site.c, &site.w);
    // Each document comes with its step and goes with it; half of one would not load.
    c.psql("edms", "CREATE PROCEDURE busy() LANGUAGE plpgsql AS $$ DECLARE d uuid; BEGIN FOR i IN 1..100000 LOOP d := gen_random_uuid(); \
        INSERT INTO docs_document SELECT d, 'busy', min(id) FROM auth_user; INSERT INTO docs_step (document_id, name) VALUES (d, 'busy'); COMMIT; PERFORM pg_sleep(0.002); END LOOP; END $$");
    let mut busy = Command::new(c.bin().join("psql"))
        .args(["-X", "-h", "127.0.0.1", "-p", &c.port.to_string(), "-U", "postgres", "-d", "edms", "-c", "CALL busy()"])
        .env("PGPASSWORD", PASSWORD)
        .spawn()
        .unwrap();
    crate::wait_for("it is busy", || c.psql("edms", "SELECT count(*) > 300 FROM docs_document") == "t");
    w.backup();
    let ended = busy.try_wait().unwrap();
    busy.kill().unwrap();
    busy.wait().unwrap();
    assert!(ended.is_none(), "nobody wrote meanwhile");
    c.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL%'");
    w.run(&["restore", "--yes"]).code(0);
    let alone = "SELECT count(*) FROM docs_document d WHERE title = 'busy' AND NOT EXISTS (SELECT FROM docs_step s WHERE s.document_id = d.id)";
    assert_eq!(c.psql("edms", alone), "0");
}

#[test]
fn fixtures_that_do_not_load_leave_the_live_database_and_nothing_beside_it() {
    let site = Site::new();
    let (c, w) = (&site.c, &site.w);
    w.backup();
    let (since, databases) = (site.fixtures(), site.databases());
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    for (from, to, words, code) in [
        // Loaded half way.
        ("\"loaddata\", \"--format=json\"", "\"loaddata\", \"--format=yaml\"", "`load`: ", 12),
        ("\"migrate\", \"--no-input\"", "\"migrate\", \"nowhere\"", "`prepare`: ", 12),
        ("\"migrate\", \"--check\"", "\"nothing\"", "`verify`: ", 13),
    ] {
        w.write_config(&text.replace(from, to));
        w.run(&["restore", "--yes"]).code(code).says(&[words, "Everything is as it was"]);
        assert_eq!((site.fixtures(), site.databases()), (since.clone(), databases.clone()));
    }
    w.write_config(&text);
    // Somebody who wants the same database from two sources is asked which.
    w.write_config(&text.replace("sources = [\"fixtures\"]", "sources = [\"server\", \"fixtures\"]"));
    w.backup();
    w.run(&["restore", "--yes"]).code(2).says(&["would be restored by source fixtures and by source server"]);
    assert_eq!(c.psql("edms", "SELECT count(*) FROM docs_document"), "200");
}
