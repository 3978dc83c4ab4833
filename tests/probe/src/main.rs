//! The program that mybox's tests run inside their containers: it looks around, touches things, and
//! says what it saw.
//!
//! It is linked statically and is all that a test image needs. `probe COMMAND ARGS`, or a link of
//! the command's name. Results go to standard output. It exits 0 when the command could do its
//! work, 1 when it could not, 2 when it was called wrongly; what a command found (a refused write,
//! say) is a result and not a failure.

mod files;
mod network;
mod resources;
mod sight;
mod signals;

use std::io::{Write, copy, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

fn main() -> ExitCode {
    let argv: Vec<String> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    match act(&argv) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is::<Usage>() => {
            eprintln!("probe: {error}");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The probe was called in a way it does not know.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "unknown command or wrong number of arguments: {}",
            self.0
        )
    }
}

impl std::error::Error for Usage {}

/// Runs the command that `argv` names, and returns the exit code.
fn act(argv: &[String]) -> Result<u8> {
    let words: Vec<&str> = command(argv);
    match words.as_slice() {
        ["true"] => {}
        ["false"] => return Ok(1),
        ["exit", code] => return code.parse().context("exit code"),
        ["sleep", seconds] => std::thread::sleep(seconds_of(seconds)?),
        ["echo", words @ ..] => println!("{}", words.join(" ")),
        ["cat"] => drop(copy(&mut stdin(), &mut stdout())?),
        ["cat", files @ ..] => files.iter().try_for_each(|file| files::print(file))?,
        ["say", steps @ ..] => return say(steps),
        ["lines", count] => lines(count.parse().context("count")?)?,
        ["stderr", words @ ..] => eprintln!("{}", words.join(" ")),
        ["report"] => print_json(&sight::report(argv)?)?,

        ["write", file, text] => std::fs::write(file, text).context(file.to_string())?,
        ["read", file] => files::print(file)?,
        ["replace-link", place, target] => {
            std::fs::remove_file(place).context(place.to_string())?;
            std::os::unix::fs::symlink(target, place).context(place.to_string())?;
        }
        ["stat", files @ ..] => print_json(&files::stat(files))?,
        ["ls", directory] => files::list(directory)?,
        ["ls"] => files::list(".")?,
        ["try-write", file] => println!("{}", files::try_write(file)),
        ["stalk", stop] => sight::stalk(Path::new(stop))?,
        ["mknod-test"] => print_json(&files::mknod_test())?,

        ["udp-echo-server", address, count] => {
            network::udp_echo_server(address, count.parse().context("count")?)?;
        }
        ["tcp-server", address, text] => network::tcp_server(address, text)?,
        ["tcp-get", address] => network::tcp_get(address)?,
        ["udp-send-from", own, address, text] => network::udp_send_from(own, address, text)?,
        ["udp-send", address, text] => network::udp_send(address, text)?,
        ["ping", address] => network::ping(address.parse().context("address")?)?,
        ["dns-server", address, answer] => {
            network::dns_server(address, answer.parse().context("address")?)?;
        }
        ["resolve", name] => network::resolve(name)?,

        ["signal-self", name] => return signals::signal_self(name),
        ["trap", names @ ..] if !names.is_empty() => signals::trap(names)?,
        ["winsize-watch"] => signals::winsize_watch()?,

        ["eat-memory", mebibytes] => {
            drop(resources::eat_memory(mebibytes.parse().context("MiB")?)?);
        }
        ["eat-memory", mebibytes, "hold"] => {
            let _eaten = resources::eat_memory(mebibytes.parse().context("MiB")?)?;
            println!("holding");
            std::thread::sleep(Duration::MAX);
        }
        ["fork-bomb", count] => resources::fork_bomb(count.parse().context("count")?)?,
        ["burn-cpu", seconds] => resources::burn_cpu(seconds_of(seconds)?)?,
        ["orphan"] => resources::orphan()?,
        ["orphan-parent"] => resources::orphan_parent()?,
        ["orphan-leaf"] => resources::orphan_leaf(),
        _ => bail!(Usage(words.join(" "))),
    }
    stdout().flush().context("standard output")?;
    Ok(0)
}

/// The command and its arguments: all of `argv` when the program goes by an applet's name, else
/// what follows its name.
fn command(argv: &[String]) -> Vec<&str> {
    let name = argv
        .first()
        .and_then(|name| Path::new(name).file_name()?.to_str());
    let applet = name.filter(|name| mybox_probe::APPLETS.contains(name));
    applet
        .into_iter()
        .chain(argv.iter().skip(1).map(String::as_str))
        .collect()
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// Steps one after the other: `out:TEXT`, `err:TEXT`, `sleep:SECONDS`, `exit:CODE`.
fn say(steps: &[&str]) -> Result<u8> {
    for step in steps {
        match step.split_once(':') {
            Some(("out", text)) => {
                println!("{text}");
                stdout().flush()?;
            }
            Some(("err", text)) => eprintln!("{text}"),
            Some(("sleep", seconds)) => std::thread::sleep(seconds_of(seconds)?),
            Some(("exit", code)) => return code.parse().context("exit code"),
            _ => bail!("no step: {step}"),
        }
    }
    Ok(0)
}

/// As many numbered lines as fast as they can be written.
fn lines(count: u64) -> Result<()> {
    let mut output = std::io::BufWriter::with_capacity(64 << 10, stdout().lock());
    for number in 0..count {
        writeln!(
            output,
            "line {number:012} of what is written as fast as it can be"
        )?;
    }
    output.flush().context("standard output")
}

fn seconds_of(text: &str) -> Result<Duration> {
    if text == "infinity" {
        return Ok(Duration::MAX);
    }
    Duration::try_from_secs_f64(text.parse().context("seconds")?).context("seconds")
}
