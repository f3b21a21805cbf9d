//! `backstay restore --managed`: handing a restore to systemd, so that it outlives the session that asked for it.
//!
//! The order, which is the command line with its directory and what it needs of the environment, goes into a file below
//! /run that only root reads and that no reboot survives. The unit `backstay-restore@ID` gets it as its environment and runs
//! `backstay managed ID`, which carries it out.

use super::context::Context;
use super::output::{notice, raw, remark};
use super::{Cli, Command};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::systemd_timer::require_systemd;
use crate::recovery::restore::new_id;
use clap::Parser;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Where orders are.
const FOLDER: &str = "/run/backstay";
/// The variable that has the order.
const ORDER: &str = "BACKSTAY_ORDER";
/// The option that hands over.
const OPTION: &str = "--managed";
/// Variables that a restore may need: ours, and those of the stores, of the clients of databases, of proxies and Docker.
const PREFIXES: &[&str] = &["BACKSTAY_", "AWS_", "GOOGLE_", "PG", "DOCKER_", "SSL_CERT_"];
const PROXIES: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// Between two looks at the unit.
const PAUSE: Duration = Duration::from_millis(500);
/// What the journal may need to show the last lines.
const LAST_LINES: Duration = Duration::from_millis(700);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The order's id
    id: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    dir: PathBuf,
    args: Vec<String>,
}

fn file(id: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("restore-{id}.env"))
}

/// Hands our own command line over, and follows the unit until it ends. Who stops following stops nothing.
///
/// # Errors
/// When the unit cannot be started. How the restore ended is the exit code.
pub async fn hand_over(context: &Context) -> Result<ExitCode> {
    require_systemd()?;
    let id = new_id().to_string();
    let unit = format!("backstay-restore@{id}.service");
    let place = std::env::current_dir().map_err(|e| Error::io("the working directory is gone", ".", e))?;
    let order = Order { dir: place, args: ours(std::env::args_os().skip(1))? };
    write(&file(&id), &environment(&order, std::env::vars())?)?;
    if let Err(e) = systemctl(&["start", "--", &unit]).await {
        let _ = std::fs::remove_file(file(&id));
        return Err(e.hint(format!("`journalctl -u {unit}` says more.")));
    }
    if !context.global.quiet {
        remark(&format!("{} {unit}: it goes on when this session ends", notice("runs as")));
        remark(&format!(
            "  look: systemctl status {unit}    follow: journalctl -fu {unit}    stop: systemctl stop {unit}"
        ));
    }
    tokio::select! {
        code = follow(&unit) => code,
        signal = super::stopped() => Err(Error::new(Kind::Interrupted, format!("no longer following, by {signal}"))
            .at(&unit)
            .hint("The restore goes on.")),
    }
}

/// The command line without the option that hands over.
fn ours(args: impl Iterator<Item = OsString>) -> Result<Vec<String>> {
    args.filter(|arg| arg != OPTION)
        .map(|arg| {
            arg.into_string().map_err(|arg| {
                Error::new(Kind::Usage, "an argument is not UTF-8, and cannot be handed over")
                    .at(arg.to_string_lossy())
                    .hint("Run the restore without --managed.")
            })
        })
        .collect()
}

/// A file for `EnvironmentFile=`.
fn environment(order: &Order, variables: impl Iterator<Item = (String, String)>) -> Result<String> {
    let json = serde_json::to_string(order)
        .map_err(|e| Error::new(Kind::Internal, "the order cannot be written").because(e))?;
    let wanted = |name: &str| {
        PREFIXES.iter().any(|p| name.starts_with(p)) || PROXIES.contains(&name.to_ascii_uppercase().as_str())
    };
    let good = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let kept = variables.filter(|(name, _)| name != ORDER && wanted(name) && good(name));
    let lines = kept.chain([(ORDER.to_owned(), json)]).map(|(name, value)| {
        let mut quoted = String::new();
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        format!("{name}=\"{quoted}\"\n")
    });
    Ok(lines.collect())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e| Error::io("the order cannot be written", path, e).hint("It needs root.");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(FOLDER).map_err(failed)?;
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// The command line of an order. The unit calls this.
///
/// # Errors
/// When there is no order, or it is none for a restore.
pub fn command(args: &Args) -> Result<Cli> {
    // What it says is in our environment by now.
    let _ = std::fs::remove_file(file(&args.id));
    let bad = |why: String| {
        Error::new(Kind::Usage, "this is for the unit of a restore, which finds its order in the environment")
            .because(why)
            .hint("Use `backstay restore --managed`.")
    };
    let order = std::env::var(ORDER).map_err(|e| bad(format!("{ORDER}: {e}")))?;
    let order: Order = serde_json::from_str(&order).map_err(|e| bad(e.to_string()))?;
    std::env::set_current_dir(&order.dir).map_err(|e| Error::io("the working directory is gone", &order.dir, e))?;
    let words = ["backstay".to_owned()].into_iter().chain(order.args);
    let cli = Cli::try_parse_from(words).map_err(|e| bad(e.to_string()))?;
    match cli.command {
        Command::Restore(_) => Ok(cli),
        _ => Err(bad("it is no restore".to_owned())),
    }
}

async fn systemctl(args: &[&str]) -> Result<String> {
    let out = Program::new("systemctl", args.iter().copied()).output().await.map_err(|e| e.kind(Kind::Restore))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Shows the unit's lines until it ends, and gives its exit code.
async fn follow(unit: &str) -> Result<ExitCode> {
    let lines = ["--follow", "--lines=all", "--output=cat", "--quiet", "--unit", unit];
    let (_journal, mut lines) = Program::new("journalctl", lines).reading().await?;
    let mut buffer = vec![0; 16 << 10];
    let ended = async {
        loop {
            let text = systemctl(&["show", "--property=ActiveState,Result,ExecMainStatus", "--", unit]).await?;
            let value = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().to_owned();
            if matches!(value("ActiveState=").as_str(), "inactive" | "failed") {
                tokio::time::sleep(LAST_LINES).await;
                return Ok::<_, Error>((value("Result="), value("ExecMainStatus=")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::pin!(ended);
    let (result, status) = loop {
        tokio::select! {
            ended = &mut ended => break ended?,
            read = lines.read(&mut buffer) => match read {
                // The journal went away; the unit did not.
                Ok(0) | Err(_) => break (&mut ended).await?,
                Ok(n) => raw(&buffer[..n])?,
            },
        }
    };
    match (result.as_str(), status.parse::<u8>()) {
        ("success", _) => Ok(ExitCode::SUCCESS),
        ("exit-code", Ok(status)) => Ok(ExitCode::from(status)),
        (how, _) => Err(Error::new(Kind::Interrupted, format!("the restore was ended by {how}"))
            .at(unit)
            .hint("`backstay restore --resume` finishes it, `backstay restore --unwind` takes it back.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_carries_the_command_line_and_what_it_needs_of_the_environment() {
        let args = ["--config", "a b.toml", "restore", "--managed", "--yes", "--to", "/x \"y\" $Z"].map(OsString::from);
        let order = Order { dir: "/root".into(), args: ours(args.into_iter()).unwrap() };
        assert_eq!(order.args, ["--config", "a b.toml", "restore", "--yes", "--to", "/x \"y\" $Z"]);
        let variables = [
            ("AWS_SECRET_ACCESS_KEY", "a\"b\\c$d`e"),
            ("https_proxy", "http://p:3128"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("BACKSTAY_ORDER", "old"),
        ];
        let text = environment(&order, variables.into_iter().map(|(n, v)| (n.into(), v.into()))).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"AWS_SECRET_ACCESS_KEY="a\"b\\c\$d\`e""#);
        assert_eq!(lines[1], "https_proxy=\"http://p:3128\"");
        assert!(lines.len() == 3 && lines[2].starts_with("BACKSTAY_ORDER=\"{"), "{text}");
    }

    #[test]
    fn without_an_order_there_is_nothing_to_carry_out() {
        assert_eq!(command(&Args { id: "none".into() }).unwrap_err().kind, Kind::Usage);
    }
}
