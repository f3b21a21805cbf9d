//! PostgreSQL in containers of an exercise: their settings are in volumes and environments of any kind, so what keeps them
//! to themselves is given as options, which count before whatever a file or `ALTER SYSTEM` says.

use super::settings;
use crate::host::docker::recreate::Specification;
use serde_json::json;

/// Programs that images of PostgreSQL start with, and that hand their arguments on to it.
const HAND_ON: &[&str] = &["docker-entrypoint.sh", "entrypoint.sh", "postgres"];

fn words<'a>(wanted: &'a Specification, key: &str) -> Vec<&'a str> {
    let words = wanted.config.get(key).and_then(|value| value.as_array());
    words.into_iter().flatten().filter_map(|word| word.as_str()).collect()
}

fn program(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a container runs PostgreSQL, by its command.
pub fn is_postgres(wanted: &Specification) -> bool {
    words(wanted, "Cmd").first().is_some_and(|first| program(first) == "postgres")
}

/// A container that runs PostgreSQL, with the options that keep it from archiving, subscribing and running jobs. `None` when
/// it starts another program, which need not hand them on.
pub fn kept_alone(wanted: &Specification) -> Option<Specification> {
    let (entry, command) = (words(wanted, "Entrypoint"), words(wanted, "Cmd"));
    let hands_on = entry.last().is_none_or(|last| HAND_ON.contains(&program(last)));
    let options_only = !entry.is_empty() && command.first().is_some_and(|first| first.starts_with('-'));
    if !hands_on || !(options_only || is_postgres(wanted)) {
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
