//! The health check of a container: what the user wants, and the image where he says nothing.

use std::time::Duration;

use mybox_store::{Healthcheck, ImageConfig};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::container::health::Check;

/// Docker's.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u32 = 3;

/// The health flags. What is `None` the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HealthRequest {
    /// No check, whatever the image has.
    pub none: bool,
    /// A line for the shell.
    pub command: Option<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// How long a check may take.
    pub timeout: Option<Duration>,
    /// So many failures in a row mean that it does not work.
    pub retries: Option<u32>,
    /// How long after its start failures do not count.
    pub start_period: Option<Duration>,
    /// Between two checks in that time.
    pub start_interval: Option<Duration>,
}

/// The check that a container gets, if any.
pub fn check(request: &HealthRequest, image: &ImageConfig) -> Result<Option<Check>, Error> {
    let others = HealthRequest {
        none: false,
        ..request.clone()
    };
    let is_given = others != HealthRequest::default();
    if request.none {
        return if is_given {
            let text = "--no-healthcheck does not go with the other health flags";
            Err(Error::Conflict(text.to_owned()))
        } else {
            Ok(None)
        };
    }
    let of_image = image.config.healthcheck.clone().unwrap_or_default();
    let command = match &request.command {
        Some(line) => Some(by_shell(image, line)),
        None => command(image, &of_image)?,
    };
    let Some(command) = command else {
        return if is_given {
            let text = "there is nothing to check: neither --health-cmd nor the image says what";
            Err(Error::Conflict(text.to_owned()))
        } else {
            Ok(None)
        };
    };
    let time = |flag: Option<Duration>, nanoseconds: i64, default| {
        let of_image = u64::try_from(nanoseconds).unwrap_or(0);
        let given = flag.unwrap_or(Duration::ZERO);
        [given, Duration::from_nanos(of_image), default]
            .into_iter()
            .find(|time| !time.is_zero())
            .unwrap_or(Duration::ZERO)
    };
    let retries = request.retries.filter(|retries| *retries > 0);
    let of_image_retries = u32::try_from(of_image.retries).ok().filter(|it| *it > 0);
    Ok(Some(Check {
        command,
        interval: time(request.interval, of_image.interval, INTERVAL),
        timeout: time(request.timeout, of_image.timeout, TIMEOUT),
        retries: retries.or(of_image_retries).unwrap_or(RETRIES),
        start_period: time(request.start_period, of_image.start_period, Duration::ZERO),
        start_interval: time(
            request.start_interval,
            of_image.start_interval,
            START_INTERVAL,
        ),
    }))
}

/// The same as the config of an image has it: what the flags say, and for the rest what the image does.
pub(super) fn committed(
    request: &HealthRequest,
    image: Option<&Healthcheck>,
) -> Option<Healthcheck> {
    if request.none {
        return Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..Healthcheck::default()
        });
    }
    if *request == HealthRequest::default() {
        return image.cloned();
    }
    let mut check = image.cloned().unwrap_or_default();
    if let Some(line) = &request.command {
        check.test = vec!["CMD-SHELL".to_owned(), line.clone()];
    }
    let times = [
        (&mut check.interval, request.interval),
        (&mut check.timeout, request.timeout),
        (&mut check.start_period, request.start_period),
        (&mut check.start_interval, request.start_interval),
    ];
    for (time, given) in times {
        let given = given.filter(|given| !given.is_zero());
        let given = given.map(|given| i64::try_from(given.as_nanos()).unwrap_or(i64::MAX));
        *time = given.unwrap_or(*time);
    }
    let retries = request.retries.filter(|retries| *retries > 0);
    check.retries = retries.map_or(check.retries, i64::from);
    Some(check)
}

/// The image's command line; `None` if it has no check.
fn command(image: &ImageConfig, check: &Healthcheck) -> Result<Option<Vec<String>>, Error> {
    let unknown = || Error::Image {
        field: "health check",
        value: check.test.join(" "),
        problem: "is neither NONE, CMD nor CMD-SHELL; --no-healthcheck does without",
    };
    match check.test.split_first() {
        None => Ok(None),
        Some((kind, rest)) => match (kind.as_str(), rest) {
            ("NONE", []) => Ok(None),
            ("CMD", [_, ..]) => Ok(Some(rest.to_vec())),
            ("CMD-SHELL", [line]) => Ok(Some(by_shell(image, line))),
            _ => Err(unknown()),
        },
    }
}

fn by_shell(image: &ImageConfig, line: &str) -> Vec<String> {
    let default = || vec!["/bin/sh".to_owned(), "-c".to_owned()];
    let mut words = Some(image.config.shell.clone())
        .filter(|words| !words.is_empty())
        .unwrap_or_else(default);
    words.push(line.to_owned());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(json: &str) -> ImageConfig {
        serde_json::from_str(&format!(r#"{{"config":{json}}}"#)).unwrap()
    }

    fn of_image(json: &str) -> Result<Option<Check>, Error> {
        let json = format!(r#"{{"Healthcheck":{json}}}"#);
        check(&HealthRequest::default(), &image(&json))
    }

    #[test]
    fn the_images_check_has_dockers_defaults() {
        let check = of_image(r#"{"Test":["CMD","curl","x"],"Interval":5000000000,"Timeout":0}"#);
        let check = check.unwrap().unwrap();
        assert_eq!(check.command, ["curl", "x"]);
        assert_eq!(check.interval, Duration::from_secs(5));
        assert_eq!((check.timeout, check.retries), (TIMEOUT, RETRIES));
        assert_eq!(check.start_period, Duration::ZERO);
        assert_eq!(check.start_interval, START_INTERVAL);
        for none in ["null", "{}", r#"{"Test":null}"#, r#"{"Test":["NONE"]}"#] {
            assert_eq!(of_image(none).unwrap(), None, "{none}");
        }
        for bad in [
            r#"{"Test":["CMD"]}"#,
            r#"{"Test":["CMD-SHELL"]}"#,
            r#"{"Test":["RUN","x"]}"#,
        ] {
            let error = of_image(bad).unwrap_err().to_string();
            assert!(error.contains("--no-healthcheck"), "{error}");
        }
    }

    #[test]
    fn flags_go_before_the_image_one_by_one() {
        let image = image(
            r#"{"Shell":["/bin/bash","-ec"],
                "Healthcheck":{"Test":["CMD-SHELL","a b"],"Retries":7,"StartPeriod":9}}"#,
        );
        let request = HealthRequest {
            interval: Some(Duration::from_secs(1)),
            ..HealthRequest::default()
        };
        let merged = check(&request, &image).unwrap().unwrap();
        assert_eq!(merged.command, ["/bin/bash", "-ec", "a b"]);
        assert_eq!((merged.interval.as_secs(), merged.retries), (1, 7));
        assert_eq!(merged.start_period, Duration::from_nanos(9));
        let request = HealthRequest {
            command: Some("c".into()),
            retries: Some(1),
            ..HealthRequest::default()
        };
        let merged = check(&request, &image).unwrap().unwrap();
        assert_eq!((merged.command[2].as_str(), merged.retries), ("c", 1));
    }

    #[test]
    fn flags_without_a_check_and_beside_none_are_refused() {
        let mut request = HealthRequest {
            retries: Some(1),
            ..HealthRequest::default()
        };
        let error = check(&request, &image("{}")).unwrap_err().to_string();
        assert!(error.contains("nothing to check"), "{error}");
        request.none = true;
        let error = check(&request, &image("{}")).unwrap_err().to_string();
        assert!(error.contains("--no-healthcheck"), "{error}");
        request.retries = None;
        let with = image(r#"{"Healthcheck":{"Test":["CMD","a"]}}"#);
        assert_eq!(check(&request, &with).unwrap(), None);
    }
}
