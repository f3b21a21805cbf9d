//! A document management system as its compose project deploys it: Django on PostgreSQL, a worker, a page in front, documents in
//! a volume. It is the real Django, with its own logins, and its own files.

use crate::boxes::{Boxes, python};
use crate::port::free_port;
use crate::world::World;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SETTINGS: &str = r#"
import os
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "edms.urls"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "apps.users", "apps.documents", "apps.workflows", "apps.audit"]
MIDDLEWARE = []
AUTH_USER_MODEL = "users.User"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("POSTGRES_DB", "edms"),
    "USER": "edms", "HOST": "/run/postgresql"}}
"#;
const URLS: &str = r#"
import json, os
from django.contrib.auth import authenticate
from django.core import signing
from django.http import JsonResponse
from django.urls import path
from apps.documents.models import Document
def health(request):
    Document.objects.exists()
    return JsonResponse({"status": "healthy", "database": "healthy"})
def login(request):
    given = json.loads(request.body)
    user = authenticate(username=given["username"], password=given["password"])
    return JsonResponse({"access": signing.dumps(user.pk)} if user else {"detail": "no"}, status=200 if user else 401)
def documents(request):
    try:
        signing.loads(request.headers.get("Authorization", "").removeprefix("Bearer "))
    except signing.BadSignature:
        return JsonResponse({"detail": "no"}, status=401)
    return JsonResponse({"count": sum(os.path.isfile(d.file) for d in Document.objects.all())})
urlpatterns = [path("health/", health), path("api/v1/auth/login/", login), path("api/v1/documents/", documents)]
"#;
const USERS: &str = "from django.contrib.auth.models import AbstractUser\nclass User(AbstractUser):\n    pass\n";
const DOCUMENTS: &str = r#"
import uuid
from django.conf import settings
from django.db import models
class Document(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    number = models.CharField(max_length=40, unique=True)
    title = models.TextField()
    file = models.TextField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
"#;
const WORKFLOWS: &str = r#"
from django.db import models
class Workflow(models.Model):
    document = models.ForeignKey("documents.Document", on_delete=models.CASCADE)
    state = models.CharField(max_length=40)
"#;
const AUDIT: &str = r#"
from django.conf import settings
from django.db import models
class AuditTrail(models.Model):
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)
    what = models.TextField()
"#;
const MANAGE: &str = "import os, sys\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'edms.settings')\nfrom django.core.management import execute_from_command_line\nexecute_from_command_line(sys.argv)\n";
/// The application makes itself ready and serves; something in its files can keep it from that.
const SERVE: &str = "if [ -e /app/storage/.broken ]; then echo cannot open the store; exit 3; fi; exec python manage.py runserver --noreload 127.0.0.1:$PORT";
/// Users, documents with their files, workflows and an audit trail.
const FILL: &str = r#"
import os
from apps.users.models import User
from apps.documents.models import Document
from apps.workflows.models import Workflow
from apps.audit.models import AuditTrail
admin = User.objects.create_superuser("admin", "admin@edms.local", "admin123")
for n in range(6): User.objects.create_user(f"user{n}", f"user{n}@edms.local", "x")
os.makedirs("/app/storage/documents", exist_ok=True)
for n in range(40):
    file = f"/app/storage/documents/{n:04}.pdf"
    with open(file, "wb") as f: f.write(os.urandom(20000))
    os.chmod(file, 0o640)
    d = Document.objects.create(number=f"SOP-{n:04}", title=f"Prüfung {n}", file=file, author=admin)
    Workflow.objects.create(document=d, state="approved")
AuditTrail.objects.bulk_create(AuditTrail(user=admin, what=f"opened {n} {os.urandom(40).hex()}") for n in range(3000))
"#;

/// How it is deployed.
pub struct Deployment {
    /// Major version of PostgreSQL.
    pub major: u32,
    /// Superuser of the server; the application is `edms`.
    pub superuser: &'static str,
}

/// The application on a host.
pub struct Edms {
    pub boxes: Boxes,
    pub world: World,
    pub db: String,
    pub backend: String,
    pub worker: String,
    pub frontend: String,
    /// Volume of the server, of which the storage script takes the files too.
    pub data: String,
    /// Volume of the documents; what else is below `/app` is in the container alone.
    pub storage: String,
    pub port: u16,
    pub front: u16,
    superuser: &'static str,
}

impl Edms {
    /// Deploys it, with nothing in it.
    pub fn deploy(how: &Deployment) -> Self {
        let (bin, mounts) = python();
        let world = World::bare();
        let files = tempfile::tempdir().unwrap();
        project(files.path(), &bin);
        let boxes = Boxes::new(Some(files.path()));
        for dir in ["run", "backups", "edms-staging"] {
            fs::create_dir(world.at(dir)).unwrap();
        }
        fs::write(world.at("edms-staging/docker-compose.prod.yml"), "services: {}\n").unwrap();
        fs::write(world.at("edms-staging/.env"), "POSTGRES_DB=edms\n").unwrap();
        let volume = |what: &str| {
            let name = boxes.stage.name(what);
            boxes.stage.docker(&["volume", "create", &name]);
            name
        };
        let (data, storage, project) = (volume("data"), volume("static"), boxes.stage.name("edms"));
        let (port, front) = (free_port(), free_port());
        let dir = world.at("edms-staging");
        let of = |service: &str, needs: &str| {
            let mut all = boxes.labels(&project, &dir, service, needs);
            all.extend(["-v".to_owned(), format!("{}:/run/postgresql", world.at("run"))]);
            all.extend(["-v".to_owned(), format!("{storage}:/app/storage")]);
            all.extend(mounts.iter().flat_map(|m| ["-v".to_owned(), m.clone()]));
            all.extend(["-e".to_owned(), format!("PATH={bin}:/usr/bin:/bin"), "-e".to_owned(), format!("PORT={port}")]);
            all.extend(["-w", "/app", "--network", "host", "--stop-signal", "SIGINT"].map(str::to_owned));
            all
        };
        let start = |what: &str, options: &[String], command: &[&str]| {
            boxes.run(what, &options.iter().map(String::as_str).collect::<Vec<_>>(), command)
        };
        let mut of_db = boxes.labels(&project, &dir, "db", "");
        of_db.extend(["-v".to_owned(), format!("{}:/run/postgresql", world.at("run"))]);
        of_db.extend(["-v".to_owned(), format!("{data}:/var/lib/postgresql/data")]);
        let of_db: Vec<&str> = of_db.iter().map(String::as_str).collect();
        let db = boxes.postgres("edms_prod_db", how.major, how.superuser, "edms", &of_db);
        let backend = start("edms_prod_backend", &of("backend", "db:service_started:true"), &["sh", "-c", SERVE]);
        let idle = "trap 'exit 0' INT; while :; do sleep 0.2; done";
        let worker = start("edms_prod_celery", &of("celery", "db:service_started:true"), &["sh", "-c", idle]);
        let on = front.to_string();
        let page = ["python", "-m", "http.server", &on, "--bind", "127.0.0.1", "--directory", "/site"];
        let frontend = start("edms_prod_frontend", &of("frontend", ""), &page);
        let superuser = how.superuser;
        Edms { boxes, world, db, backend, worker, frontend, data, storage, port, front, superuser }
    }

    /// Deploys it, makes its tables, and fills it.
    pub fn filled(how: &Deployment) -> Self {
        let edms = Self::deploy(how);
        edms.manage(&["migrate", "--no-input", "-v", "0"]);
        edms.shell(FILL);
        edms.until_healthy();
        edms
    }

    /// `manage.py`, in the application's container.
    #[track_caller]
    pub fn manage(&self, args: &[&str]) -> String {
        let exec = ["exec", &self.backend, "python", "manage.py"];
        self.boxes.stage.docker(&[&exec[..], args].concat())
    }

    /// `manage.py shell`
    #[track_caller]
    pub fn shell(&self, script: &str) -> String {
        self.manage(&["shell", "-v", "0", "-c", script])
    }

    /// SQL in the database.
    #[track_caller]
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.boxes.sql(&self.db, self.superuser, database, sql)
    }

    /// Databases of the server but its own.
    pub fn databases(&self) -> Vec<String> {
        let all = self.sql(
            "edms",
            "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres' ORDER BY 1",
        );
        all.lines().map(str::to_owned).collect()
    }

    /// Everything that a restore has to bring back: all rows, and all files with their modes.
    #[track_caller]
    pub fn state(&self) -> String {
        format!("{}\n{}", self.boxes.content(&self.db, self.superuser, "edms"), self.files())
    }

    /// The documents' files, with modes and owners.
    #[track_caller]
    pub fn files(&self) -> String {
        let listed = "cd \"$0\"; find . -printf '%P|%y|%m|%U|%G\\n' | sort; find . -type f -exec sha256sum {} + | sort";
        let out = Command::new("bash").args(["-ec", listed, &self.place()]).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    /// The directory of the documents' volume.
    pub fn place(&self) -> String {
        self.boxes.stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &self.storage])
    }

    /// What a page answers, with its status.
    pub fn get(&self, port: u16, path: &str) -> String {
        let url = format!("http://127.0.0.1:{port}{path}");
        let out = Command::new("curl").args(["-s", "-m", "10", "-w", " %{http_code}", &url]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Waits until it answers.
    #[track_caller]
    pub fn until_healthy(&self) {
        let started = Instant::now();
        while !self.get(self.port, "/health/").ends_with(" 200") {
            assert!(started.elapsed() < Duration::from_secs(60), "{}", self.get(self.port, "/health/"));
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Whether everything of it runs.
    pub fn runs(&self) -> bool {
        [&self.db, &self.backend, &self.worker, &self.frontend].iter().all(|c| self.boxes.runs(c))
    }

    /// Users, documents, workflows, audit trails, as one counts them before and after.
    #[track_caller]
    pub fn counts(&self, database: &str) -> String {
        self.sql(
            database,
            "SELECT (SELECT count(*) FROM users_user), (SELECT count(*) FROM documents_document), \
             (SELECT count(*) FROM workflows_workflow), (SELECT count(*) FROM audit_audittrail)",
        )
    }
}

/// Its files as the image has them, with the migrations that `makemigrations` writes.
fn project(root: &Path, bin: &str) {
    let app = root.join("app");
    let write = |file: &str, text: &str| {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (file, text) in
        [("manage.py", MANAGE), ("edms/__init__.py", ""), ("edms/settings.py", SETTINGS), ("edms/urls.py", URLS)]
    {
        write(&format!("app/{file}"), text);
    }
    write("site/index.html", "<!doctype html><title>EDMS</title>\n");
    write("app/apps/__init__.py", "");
    for (name, models) in [("users", USERS), ("documents", DOCUMENTS), ("workflows", WORKFLOWS), ("audit", AUDIT)] {
        write(&format!("app/apps/{name}/__init__.py"), "");
        write(&format!("app/apps/{name}/migrations/__init__.py"), "");
        write(&format!("app/apps/{name}/models.py"), models);
    }
    let mut make = Command::new(format!("{bin}/python"));
    // It would look into the database whether its history is in order; there is none yet.
    let out = make.args(["-W", "ignore", "manage.py", "makemigrations", "-v", "0"]).current_dir(&app).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
