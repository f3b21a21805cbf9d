//! PostgreSQL in containers of an exercise: their settings are in volumes and environments of any kind, so what keeps them
//! to themselves is given as options, which count before whatever a file or `ALTER SYSTEM` says.

use super::settings;
use crate::host::docker::recreate::Specification;
use serde_json::json;

/// Programs that images of PostgreSQL start with, and that hand their arguments on to it.
const HAND_ON: &[&str] = &["docker-entrypoint.sh", "entrypoint.sh", "postgres"];

/// Variables that images of PostgreSQL have, where the data is; who is only a client of one does not have them.
const OF_SERVERS: &[&str] = &["PGDATA", "PGROOT", "POSTGRESQL_VOLUME_DIR"];

fn words<'a>(wanted: &'a Specification, key: &str) -> Vec<&'a str> {
    let words = wanted.config.get(key).and_then(|value| value.as_array());
    words.into_iter().flatten().filter_map(|word| word.as_str()).collect()
}

fn program(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn begins_with_postgres(words: &[&str]) -> bool {
    words.first().is_some_and(|first| program(first) == "postgres")
}

/// Whether a container runs PostgreSQL: by its program, or by its variables, since its command may be options only, or a script
/// that starts it in the end.
pub fn is_postgres(wanted: &Specification) -> bool {
    let variable = |set: &&str| OF_SERVERS.contains(&set.split('=').next().unwrap_or_default());
    begins_with_postgres(&words(wanted, "Cmd"))
        || begins_with_postgres(&words(wanted, "Entrypoint"))
        || words(wanted, "Env").iter().any(variable)
}

/// A container that runs PostgreSQL, with the options that keep it from archiving, subscribing and running jobs. `None` when
/// it starts another program, which need not hand them on.
pub fn kept_alone(wanted: &Specification) -> Option<Specification> {
    let (entry, command) = (words(wanted, "Entrypoint"), words(wanted, "Cmd"));
    let hands_on = entry.last().is_none_or(|last| HAND_ON.contains(&program(last)));
    let options_only = !entry.is_empty() && command.first().is_some_and(|first| first.starts_with('-'));
    if !hands_on || !(options_only || begins_with_postgres(&command)) {
        return None;
    }
    let options = settings::options();
    let all: Vec<&str> = command.into_iter().chain(options.iter().map(String::as_str)).collect();
    let mut kept = wanted.clone();
    kept.config.as_object_mut()?.insert("Cmd".to_owned(), json!(all));
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn container(entry: Value, command: Value) -> Specification {
        let config = json!({ "Entrypoint": entry, "Cmd": command, "Image": "postgres:16" });
        Specification { name: "db".into(), config, ..Specification::default() }
    }

    #[test]
    fn the_options_of_an_exercise_come_last() {
        let entry = json!(["/usr/local/bin/docker-entrypoint.sh"]);
        for (entry, command) in [
            (entry.clone(), json!(["postgres"])),
            (entry.clone(), json!(["postgres", "-c", "archive_mode=on"])),
            (entry, json!(["-c", "archive_mode=on"])),
            (Value::Null, json!(["/usr/lib/postgresql/16/bin/postgres", "-D", "/data"])),
        ] {
            let kept = kept_alone(&container(entry, command.clone())).unwrap();
            let now = words(&kept, "Cmd");
            let then = command.as_array().unwrap();
            assert!(then.iter().zip(&now).all(|(a, b)| a.as_str() == Some(*b)), "{now:?}");
            let more = &now[then.len()..];
            assert_eq!(more.len(), settings::options().len());
            for pair in [["-c", "archive_mode=off"], ["-c", "cron.launch_active_jobs=off"]] {
                assert!(more.chunks(2).any(|c| c == pair), "{more:?}");
            }
            assert_eq!(kept.config["Image"], "postgres:16");
        }
    }

    #[test]
    fn a_server_is_known_whatever_its_command_is() {
        let official = json!(["PATH=/usr/bin", "PG_MAJOR=16", "PGDATA=/var/lib/postgresql/data"]);
        let bitnami = json!(["POSTGRESQL_VOLUME_DIR=/bitnami/postgresql"]);
        let client = json!(["PGHOST=db", "PGDATABASE=shop", "PG_MAJOR=16"]);
        let entry = json!(["docker-entrypoint.sh"]);
        for (env, entry, command, server, kept) in [
            (&official, &entry, json!(["-c", "archive_mode=on"]), true, true),
            (&official, &entry, json!(["sh", "-c", "exec docker-entrypoint.sh postgres"]), true, false),
            (&bitnami, &json!(["/opt/entrypoint.sh"]), json!(["/opt/run.sh"]), true, false),
            (&Value::Null, &entry, json!(["postgres"]), true, true),
            (&Value::Null, &json!(["/usr/bin/postgres"]), json!(["-D", "/data"]), true, true),
            // Other images have an entry of that name, and clients know of a server.
            (&client, &entry, json!(["--appendonly", "yes"]), false, true),
            (&Value::Null, &Value::Null, json!(["python3", "app.py"]), false, false),
        ] {
            let mut wanted = container(entry.clone(), command);
            wanted.config["Env"] = env.clone();
            assert_eq!(is_postgres(&wanted), server, "{:?}", wanted.config);
            assert_eq!(kept_alone(&wanted).is_some(), kept, "{:?}", wanted.config);
        }
    }

    #[test]
    fn another_program_need_not_hand_options_on() {
        let entry = json!(["docker-entrypoint.sh"]);
        for (entry, command) in [
            (entry.clone(), json!(["sh", "-c", "exec postgres"])),
            (entry.clone(), Value::Null),
            (entry, json!([])),
            (json!(["/opt/run.sh"]), json!(["postgres"])),
            (Value::Null, json!(["-c", "archive_mode=on"])),
        ] {
            assert_eq!(
                kept_alone(&container(entry.clone(), command.clone())).map(|c| c.config),
                None,
                "{entry} {command}"
            );
        }
    }
}
