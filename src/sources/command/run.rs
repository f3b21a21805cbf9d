//! Where and how the programs of a source run: place, environment, secrets, time.

use super::pump::{Sink, pump};
use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::exec::Inside;
use crate::host::exec::{Place, Program, Running};
use crate::sources::url::encode;
use bytes::Bytes;
use futures::Stream;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Shorter ones are in every text by chance.
const TOO_SHORT_TO_HIDE: usize = 4;

/// Where the programs of a source run.
#[derive(Clone, Debug, Default)]
pub struct Runner {
    /// Container: name, `PROJECT/SERVICE`, or a swarm service.
    pub container: Option<String>,
    /// User of the operating system, there.
    pub os_user: Option<String>,
    /// Working directory, there.
    pub dir: Option<PathBuf>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Secrets, by the name of the variable.
    pub secrets: Vec<(String, Secret)>,
}

/// What one call gets besides what is configured.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Words in braces, in arguments and in the environment, with what they stand for.
    pub words: Vec<(&'static str, String)>,
    /// Environment; what is configured wins.
    pub env: Vec<(String, String)>,
    /// Whether `DATABASE_URL` is made of the `PG…` variables.
    pub url: bool,
}

impl Given {
    fn put_in(&self, text: &str) -> String {
        self.words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning))
    }
}

/// A program of a source, ready to run.
pub struct Call {
    program: Program,
    key: &'static str,
    limit: Duration,
    secrets: Vec<Secret>,
}

impl Runner {
    /// A program of the source, named by its key.
    ///
    /// # Errors
    /// When its container is not to be had.
    pub async fn call(&self, key: &'static str, argv: &[String], limit: Duration, given: &Given) -> Result<Call> {
        let place = match (&self.container, &self.os_user) {
            (None, None) => Place::Host,
            (None, Some(user)) => Place::User(user.clone()),
            (Some(name), user) => {
                let docker = Docker::connect().await?;
                let found = docker.find(name).await?;
                Place::Container(Inside { user: user.clone(), ..Inside::new(docker, found.name) })
            }
        };
        let mut env: BTreeMap<String, String> = given.env.iter().cloned().collect();
        env.extend(self.env.iter().map(|(name, value)| (name.clone(), given.put_in(value))));
        env.extend(self.secrets.iter().map(|(name, secret)| (name.clone(), secret.expose().to_owned())));
        if given.url && !env.contains_key("DATABASE_URL") {
            env.insert("DATABASE_URL".to_owned(), database_url(&env));
        }
        let mut secrets: Vec<Secret> = self.secrets.iter().map(|(_, secret)| secret.clone()).collect();
        let hidden = ["DATABASE_URL", "PGPASSWORD"].iter().filter_map(|name| env.get(*name));
        secrets.extend(hidden.cloned().map(Secret::new));
        let [path, args @ ..] = argv else {
            return Err(Error::new(Kind::Internal, format!("`{key}` names no program")));
        };
        let program = Program::new(path, args.iter().map(|a| given.put_in(a)))
            .env(env.into_iter().collect())
            .at(place)
            .in_dir(self.dir.clone())
            .foreign();
        Ok(Call { program, key, limit, secrets })
    }

    /// Whether a program can be found: then a restore would not fail for that after it has begun. In a container nobody
    /// can tell without starting it.
    pub fn finds(&self, argv: &[String]) -> bool {
        let (None, Some(path)) = (&self.container, argv.first().map(Path::new)) else { return true };
        if path.components().count() > 1 {
            return self.dir.as_deref().unwrap_or(Path::new("/")).join(path).is_file();
        }
        let all = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&all).any(|dir| dir.join(path).is_file())
    }
}

/// A text without these secrets, nor as a URL or a form has them.
pub fn hide<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let secrets = secrets.into_iter().map(Secret::expose).filter(|secret| secret.len() >= TOO_SHORT_TO_HIDE);
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "***").replace(&encode(secret), "***"))
}

/// As libpq and most frameworks read it, of the variables of libpq. Without a host it is that of the client's defaults.
pub fn database_url(env: &BTreeMap<String, String>) -> String {
    let get = |name: &str| env.get(name).map(|value| encode(value)).unwrap_or_default();
    let password = env.get("PGPASSWORD").map(|p| format!(":{}", encode(p))).unwrap_or_default();
    let port = env.get("PGPORT").map(|p| format!(":{p}")).unwrap_or_default();
    format!("postgresql://{}{password}@{}{port}/{}", get("PGUSER"), get("PGHOST"), get("PGDATABASE"))
}

impl Call {
    /// The program.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Waits for the end of what was started of this.
    ///
    /// # Errors
    /// Of the kind given, with the exit status and the end of standard error.
    pub async fn finish(&self, running: Running, kind: Kind) -> Result<()> {
        running.finish(kind).await.map(|_| ()).map_err(|e| self.tell(e))
    }

    /// Lets something that uses the program take no longer than it may. What it started is then killed.
    ///
    /// # Errors
    /// Of the kind given when the time is over.
    pub async fn within<T>(&self, kind: Kind, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::time::timeout(self.limit, work).await.unwrap_or_else(|_| {
            let (limit, key) = (self.limit, if kind == Kind::Source { "timeout" } else { "load_timeout" });
            Err(Error::new(kind, format!("it did not end within {} seconds and was killed", limit.as_secs_f64()))
                .at(self.place())
                .hint(format!("Look what it waits for, or give it more time with `{key}`.")))
        })
    }

    /// Runs it to its end, with nothing on its input.
    ///
    /// # Errors
    /// Of the kind given.
    pub async fn run(&self, kind: Kind) -> Result<()> {
        let work = async {
            let running = self.program.alone().await.map_err(|e| self.tell(e.kind(kind)))?;
            self.finish(running, kind).await
        };
        self.within(kind, work).await
    }

    /// Gives the error the place, and takes the secrets out of what the program said.
    pub fn tell(&self, e: Error) -> Error {
        let cause = e.cause.as_ref().map(|cause| self.hide(&cause.to_string()));
        Error { cause: cause.map(Into::into), ..e }.at(self.place())
    }

    /// Takes the secrets out of what the program said.
    pub fn hide(&self, text: &str) -> String {
        hide(text, &self.secrets)
    }

    fn place(&self) -> String {
        let there = match &self.program.place {
            Place::Host => String::new(),
            Place::User(user) => format!(" as {user}"),
            Place::Container(inside) => format!(" in container {}", inside.container),
        };
        format!("`{}`: {}{there}", self.key, self.program.path.display())
    }
}

/// Hands a stream to several programs on their inputs and waits for all of them; gives its length. The first one is the
/// one that matters: it must take all of it, and its time is that of all.
///
/// # Errors
/// [`Kind::Restore`] when one fails, or that of the stream.
pub async fn feed(calls: &[&Call], from: impl Stream<Item = Result<Bytes>> + Unpin) -> Result<u64> {
    let work = async {
        // Dropped in the reverse order: a program is killed before it sees the end of what is not the whole.
        let mut sinks = Vec::new();
        let mut running = Vec::new();
        for call in calls {
            let (started, input) = call.program.writing().await.map_err(|e| call.tell(e.kind(Kind::Restore)))?;
            running.push(started);
            sinks.push(Sink::new(input));
        }
        let length = pump(from, &mut sinks).await?;
        let mut cut = sinks.first().is_some_and(Sink::let_go);
        drop(sinks);
        for (call, running) in calls.iter().zip(running) {
            call.finish(running, Kind::Restore).await?;
            if std::mem::take(&mut cut) {
                return Err(Error::new(Kind::Restore, "it ended well and had not read all of its input")
                    .at(call.place())
                    .hint("What it took may be half of the data; it must read to the end."));
            }
        }
        Ok(length)
    };
    match calls.first() {
        Some(first) => first.within(Kind::Restore, work).await,
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn secrets_are_taken_out_of_what_a_program_says_and_words_are_put_in() {
        let runner = Runner {
            env: vec![("NAME".into(), "{database}".into())],
            secrets: vec![("TOKEN".into(), Secret::new("hunter2".into()))],
            ..Runner::default()
        };
        let given = Given {
            words: vec![("{database}", "erp_staged".into())],
            env: vec![("PGUSER".into(), "a b".into()), ("PGPASSWORD".into(), "p/w:x".into())],
            url: true,
        };
        let script = "echo \"$NAME $1 $TOKEN $DATABASE_URL\" >&2; exit 7".to_owned();
        let argv = ["sh".to_owned(), "-c".into(), script, "sh".into(), "{database}".into()];
        let call = runner.call("load", &argv, Duration::from_secs(10), &given).await.unwrap();
        let e = call.run(Kind::Restore).await.unwrap_err();
        assert_eq!((e.kind, e.what.as_str()), (Kind::Restore, "sh failed with exit status 7"));
        assert_eq!(e.cause.unwrap().to_string(), "erp_staged erp_staged *** ***");
        let env: BTreeMap<_, _> = call.program.env.0.into_iter().collect();
        assert_eq!(env["DATABASE_URL"], "postgresql://a%20b:p%2Fw%3Ax@/");
    }
}
