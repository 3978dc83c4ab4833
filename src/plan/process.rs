//! The command line, the environment, the working directory: how flags and image config combine
//! (Docker's rules; image-spec config.md, "Properties").

use mybox_store::ImageConfig;

use super::{Error, RunRequest};
use crate::kernel::signal;

/// What Docker gives a container whose image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Entrypoint and Cmd. A new entrypoint drops the image's Cmd with the image's Entrypoint.
pub fn entrypoint_and_command(
    request: &RunRequest,
    image: &ImageConfig,
) -> (Vec<String>, Vec<String>) {
    let mut image_entrypoint = image.config.entrypoint.clone().unwrap_or_default();
    if image_entrypoint == [""] {
        // `ENTRYPOINT [""]` is how a Dockerfile does without the one of its base.
        image_entrypoint.clear();
    }
    let image_command = image.config.cmd.clone().unwrap_or_default();
    let (entrypoint, default_command) = match &request.entrypoint {
        None => (image_entrypoint, image_command),
        Some(word) if word.is_empty() => (Vec::new(), Vec::new()),
        Some(word) => (vec![word.clone()], Vec::new()),
    };
    if request.command.is_empty() {
        (entrypoint, default_command)
    } else {
        (entrypoint, request.command.clone())
    }
}

/// What is executed: entrypoint and command in one.
pub(super) fn command_line(
    request: &RunRequest,
    image: &ImageConfig,
) -> Result<Vec<String>, Error> {
    let (entrypoint, command) = entrypoint_and_command(request, image);
    let line: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if line.is_empty() {
        Err(Error::NoCommand)
    } else {
        Ok(line)
    }
}

/// PATH, HOSTNAME and TERM by default, then the image's variables, then the user's. HOME is added
/// by the launcher, which alone knows the user's entry in the image's /etc/passwd.
pub(super) fn environment(
    request: &RunRequest,
    image: &ImageConfig,
    hostname: &str,
) -> Vec<String> {
    let mut variables: Vec<(String, String)> = vec![
        ("PATH".into(), PATH.into()),
        ("HOSTNAME".into(), hostname.into()),
    ];
    if request.terminal {
        variables.push(("TERM".into(), "xterm".into()));
    }
    set(&mut variables, pairs(&image.config.env));
    set(&mut variables, request.env.iter().cloned());
    lines(variables)
}

/// `NAME=value` in two; without `=` the value is empty.
pub(super) fn pairs(lines: &[String]) -> Vec<(String, String)> {
    let pair = |line: &String| {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        (name.to_owned(), value.to_owned())
    };
    lines.iter().map(pair).collect()
}

/// Sets variables; one that is there keeps its place.
pub(super) fn set(
    variables: &mut Vec<(String, String)>,
    new: impl IntoIterator<Item = (String, String)>,
) {
    for (name, value) in new {
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => variables.push((name, value)),
        }
    }
}

/// Variables as `NAME=value`.
pub(super) fn lines(variables: Vec<(String, String)>) -> Vec<String> {
    let line = |(name, value)| format!("{name}={value}");
    variables.into_iter().map(line).collect()
}

/// The working directory; `/` if nobody says.
pub(super) fn working_directory(
    request: &RunRequest,
    image: &ImageConfig,
) -> Result<String, Error> {
    let of_image = Some(image.config.working_dir.as_str()).filter(|dir| !dir.is_empty());
    let dir = request.workdir.as_deref().or(of_image).unwrap_or("/");
    if dir.starts_with('/') {
        Ok(dir.to_owned())
    } else {
        Err(Error::Conflict(format!(
            "the working directory `{dir}` is not an absolute path"
        )))
    }
}

/// `user[:group]`; root if nobody says.
pub(super) fn user(request: &RunRequest, image: &ImageConfig) -> String {
    let user = request.user.as_deref().unwrap_or(&image.config.user);
    if user.is_empty() {
        "0".to_owned()
    } else {
        user.to_owned()
    }
}

/// The signal that asks the container to stop, by name; SIGTERM if nobody says.
pub(super) fn stop_signal(request: &RunRequest, image: &ImageConfig) -> Result<String, Error> {
    if let Some(name) = &request.stop_signal {
        return Ok(name.clone());
    }
    let of_image = Some(image.config.stop_signal.as_deref().unwrap_or_default());
    let text = of_image
        .filter(|text| !text.is_empty())
        .unwrap_or("SIGTERM");
    let number = signal::parse(text).ok_or_else(|| Error::Image {
        field: "stop signal",
        value: text.to_owned(),
        problem: "is no signal",
    })?;
    Ok(signal::name(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> ImageConfig {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{json},
                "rootfs":{{"type":"layers","diff_ids":[]}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(ToOwned::to_owned).collect()
    }

    #[test]
    fn command_lines_combine_as_dockers_do() {
        let both = image(r#"{"Entrypoint":["/entry","-x"],"Cmd":["serve"]}"#);
        let cases = [
            (None, "", "/entry -x serve"),
            (None, "a b", "/entry -x a b"),
            (Some("/sh"), "", "/sh"),
            (Some("/sh"), "-c x", "/sh -c x"),
            (Some(""), "a", "a"),
        ];
        for (entrypoint, command, expected) in cases {
            let request = RunRequest {
                entrypoint: entrypoint.map(Into::into),
                command: words(command),
                ..RunRequest::default()
            };
            let line = command_line(&request, &both).unwrap();
            assert_eq!(line, words(expected), "{entrypoint:?} {command:?}");
        }
        let reset = image(r#"{"Entrypoint":[""],"Cmd":["serve"]}"#);
        let line = command_line(&RunRequest::default(), &reset).unwrap();
        assert_eq!(line, ["serve"]);
        let nothing = command_line(&RunRequest::default(), &image("{}"));
        assert!(matches!(nothing, Err(Error::NoCommand)));
    }

    #[test]
    fn the_users_variables_win_over_the_images_and_these_over_defaults() {
        let image = image(r#"{"Env":["PATH=/img","A=1","B=2"]}"#);
        let request = RunRequest {
            env: vec![("B".into(), "3".into()), ("C".into(), "x=y".into())],
            terminal: true,
            ..RunRequest::default()
        };
        assert_eq!(
            environment(&request, &image, "web"),
            [
                "PATH=/img",
                "HOSTNAME=web",
                "TERM=xterm",
                "A=1",
                "B=3",
                "C=x=y"
            ]
        );
    }

    #[test]
    fn a_relative_working_directory_is_refused() {
        let request = RunRequest {
            workdir: Some("here".into()),
            ..RunRequest::default()
        };
        let error = working_directory(&request, &image("{}")).unwrap_err();
        assert!(error.to_string().contains("`here`"));
        let from_image = image(r#"{"WorkingDir":"/srv"}"#);
        assert_eq!(
            working_directory(&RunRequest::default(), &from_image).unwrap(),
            "/srv"
        );
    }

    #[test]
    fn the_stop_signal_is_the_users_else_the_images_else_sigterm() {
        let asked = RunRequest {
            stop_signal: Some("SIGINT".into()),
            ..RunRequest::default()
        };
        let plain = RunRequest::default();
        let quit = image(r#"{"StopSignal":"quit"}"#);
        assert_eq!(stop_signal(&asked, &quit).unwrap(), "SIGINT");
        assert_eq!(stop_signal(&plain, &quit).unwrap(), "SIGQUIT");
        for silent in ["{}", r#"{"StopSignal":""}"#] {
            assert_eq!(stop_signal(&plain, &image(silent)).unwrap(), "SIGTERM");
        }
        let nonsense = image(r#"{"StopSignal":"SIGNOPE"}"#);
        let error = stop_signal(&plain, &nonsense).unwrap_err().to_string();
        assert!(error.contains("`SIGNOPE` is no signal"), "{error}");
    }
}
