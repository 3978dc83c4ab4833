//! From what a container was asked to be to the config of the image that is committed of it. What
//! mybox itself adds to every container is no part of it.

use mybox_store::{Config, ImageConfig};

use super::{RunRequest, health, process};

/// The image's config, with the container's own command, environment, user, working directory, stop
/// signal, health check, ports, volumes and labels.
pub fn committed(request: &RunRequest, image: &ImageConfig) -> Config {
    let mut config = image.config.clone();
    let (entrypoint, command) = process::entrypoint_and_command(request, image);
    let some = |words: Vec<String>| Some(words).filter(|words| !words.is_empty());
    (config.entrypoint, config.cmd) = (some(entrypoint), some(command));
    let mut variables = process::pairs(&image.config.env);
    process::set(&mut variables, request.env.iter().cloned());
    config.env = process::lines(variables);
    if let Some(user) = &request.user {
        config.user.clone_from(user);
    }
    if let Some(directory) = &request.workdir {
        config.working_dir.clone_from(directory);
    }
    if let Some(signal) = &request.stop_signal {
        config.stop_signal = Some(signal.clone());
    }
    let published = request.publish.iter().map(|publish| publish.port);
    let ports = published.chain(request.expose.iter().copied());
    config
        .exposed_ports
        .extend(ports.map(|port| port.to_string()));
    let mut unnamed = request.named_volumes.clone();
    unnamed.retain(|volume| volume.name.is_none() && !volume.borrowed);
    let places = unnamed.iter().map(|volume| &volume.destination);
    let places = places.map(|place| place.display().to_string());
    config.volumes.extend(places);
    config.healthcheck = health::committed(&request.health, config.healthcheck.as_ref());
    config.labels.extend(request.labels.clone());
    config
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mybox_store::Healthcheck;
    use serde_json::json;

    use super::*;
    use crate::plan::health::HealthRequest;
    use crate::plan::request::NamedVolume;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(ToOwned::to_owned).collect()
    }

    fn image() -> ImageConfig {
        let mut image: ImageConfig = serde_json::from_str(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap();
        image.config = Config {
            entrypoint: Some(words("/entry -x")),
            cmd: Some(words("serve")),
            env: words("A=1 B=2 TERM=dumb"),
            user: "alice".into(),
            ..Config::default()
        };
        image
    }

    #[test]
    fn what_nobody_asked_for_is_as_the_image_has_it() {
        assert_eq!(committed(&RunRequest::default(), &image()), image().config);
    }

    #[test]
    fn entrypoint_and_command_are_those_of_the_run() {
        let cases = [
            (None, "x y", Some("/entry -x"), Some("x y")),
            (Some("/sh"), "-c x", Some("/sh"), Some("-c x")),
            (Some("/sh"), "", Some("/sh"), None),
            (Some(""), "/sh -c x", None, Some("/sh -c x")),
        ];
        for (asked, command, entrypoint, cmd) in cases {
            let request = RunRequest {
                entrypoint: asked.map(ToOwned::to_owned),
                command: words(command),
                ..RunRequest::default()
            };
            let config = committed(&request, &image());
            assert_eq!(
                config.entrypoint,
                entrypoint.map(words),
                "{asked:?} {command}"
            );
            assert_eq!(config.cmd, cmd.map(words), "{asked:?} {command}");
        }
    }

    #[test]
    fn volumes_without_a_name_and_the_health_check_are_the_images_too() {
        let volume = |name: Option<&str>, destination: &str| NamedVolume {
            name: name.map(ToOwned::to_owned),
            destination: destination.into(),
            ..NamedVolume::default()
        };
        let mut request = RunRequest {
            named_volumes: vec![volume(None, "/data"), volume(Some("db"), "/srv")],
            health: HealthRequest {
                command: Some("true".into()),
                interval: Some(Duration::from_secs(3)),
                ..HealthRequest::default()
            },
            ..RunRequest::default()
        };
        let mut image = image();
        image.config.healthcheck = Some(Healthcheck {
            test: words("CMD a"),
            retries: 7,
            ..Healthcheck::default()
        });
        let config = committed(&request, &image);
        assert_eq!(config.volumes, ["/data".to_owned()].into());
        let json = serde_json::to_value(&config.healthcheck).unwrap();
        let merged =
            json!({"Test": ["CMD-SHELL", "true"], "Interval": 3_000_000_000_u64, "Retries": 7});
        assert_eq!(json, merged);
        request.health = HealthRequest {
            none: true,
            ..HealthRequest::default()
        };
        let check = committed(&request, &image).healthcheck;
        assert_eq!(
            serde_json::to_value(check).unwrap(),
            json!({"Test": ["NONE"]})
        );
    }

    #[test]
    fn variables_of_the_user_are_kept_whatever_they_are_called() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = RunRequest {
            env: vec![pair("B", "3"), pair("HOME", "/srv"), pair("TERM", "xterm")],
            expose: vec!["53/udp".parse().unwrap()],
            ..RunRequest::default()
        };
        let config = committed(&request, &image());
        assert_eq!(config.env, words("A=1 B=3 TERM=xterm HOME=/srv"));
        assert_eq!(config.exposed_ports, ["53/udp".to_owned()].into());
    }
}
