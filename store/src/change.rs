//! `--change`: the Dockerfile instructions that change an image config.
//!
//! `$NAME` stands for what the config's environment has by then, as in a Dockerfile: in all of them but
//! CMD, ENTRYPOINT and HEALTHCHECK, whose shell does that when it is run.

mod words;

use crate::duration;
use crate::error::Error;
use crate::oci::config::{Config, Healthcheck};
use words::{Variables, split, unquoted};

/// Instructions, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change(Vec<Line>);

/// One instruction as it was written. What it says is known when the variables are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    text: String,
    word: String,
    rest: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Instruction {
    Cmd(Vec<String>),
    Entrypoint(Vec<String>),
    Env(Vec<(String, String)>),
    Workdir(String),
    User(String),
    Expose(Vec<String>),
    Label(Vec<(String, String)>),
    Volume(Vec<String>),
    StopSignal(String),
    Healthcheck(Healthcheck),
}

const KNOWN: &str = "CMD ENTRYPOINT ENV WORKDIR USER EXPOSE LABEL VOLUME STOPSIGNAL HEALTHCHECK";

impl Change {
    /// Parses instructions: `CMD ["a","b"]`, `ENV A=1 B="2 3"`, `workdir /srv`. A line that ends in a backslash
    /// goes on with the next.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let joined = text.replace("\\\n", "");
        let lines = joined.lines().map(str::trim);
        let lines: Vec<Line> = lines.filter(|it| !it.is_empty()).map(Line::of).collect();
        if lines.is_empty() {
            return Err(Line::of(text).bad(unknown()));
        }
        lines.iter().try_for_each(Line::check)?;
        Ok(Self(lines))
    }

    pub(crate) fn apply(&self, config: &mut Config) -> Result<(), Error> {
        let mut lines = self.0.iter();
        lines.try_for_each(|line| line.apply(config))
    }
}

impl Line {
    fn of(text: &str) -> Self {
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Self {
            text: text.to_owned(),
            word: word.to_ascii_uppercase(),
            rest: rest.trim().to_owned(),
        }
    }

    /// Whether it can be understood. What has variables in it may turn out otherwise.
    fn check(&self) -> Result<(), Error> {
        match self.understood(&Variables::none()) {
            Err(_) if self.has_variables() && is_known(&self.word) => Ok(()),
            understood => understood.map(drop),
        }
    }

    fn has_variables(&self) -> bool {
        self.rest.contains('$')
    }

    fn understood(&self, variables: &Variables<'_>) -> Result<Instruction, Error> {
        let understood = instruction(&self.word, &self.rest, variables);
        understood.map_err(|reason| self.bad(reason))
    }

    fn bad(&self, reason: String) -> Error {
        Error::BadChange {
            text: self.text.clone(),
            reason,
        }
    }

    fn apply(&self, config: &mut Config) -> Result<(), Error> {
        // Those from before it: in `ENV A=1 B=$A` that is the A of earlier.
        let understood = self.understood(&Variables::of(&config.env))?;
        understood.apply(config);
        Ok(())
    }
}

impl Instruction {
    fn apply(self, config: &mut Config) {
        match self {
            Self::Cmd(command) => config.cmd = Some(command),
            Self::Entrypoint(command) => config.entrypoint = Some(command),
            Self::Env(pairs) => pairs.iter().for_each(|pair| set_env(&mut config.env, pair)),
            Self::Workdir(path) => config.working_dir = workdir(&config.working_dir, &path),
            Self::User(user) => config.user = user,
            Self::Expose(ports) => config.exposed_ports.extend(ports),
            Self::Label(pairs) => config.labels.extend(pairs),
            Self::Volume(paths) => config.volumes.extend(paths),
            Self::StopSignal(signal) => config.stop_signal = Some(signal),
            Self::Healthcheck(check) => config.healthcheck = Some(check),
        }
    }
}

fn is_known(word: &str) -> bool {
    KNOWN.split(' ').any(|known| known == word)
}

fn unknown() -> String {
    format!("the instruction must be one of {KNOWN}")
}

fn instruction(word: &str, rest: &str, variables: &Variables<'_>) -> Result<Instruction, String> {
    if !is_known(word) {
        return Err(unknown());
    }
    if rest.is_empty() {
        return Err(format!("{word} needs an argument"));
    }
    Ok(match word {
        "CMD" => Instruction::Cmd(command(rest)),
        "ENTRYPOINT" => Instruction::Entrypoint(command(rest)),
        "ENV" => Instruction::Env(pairs(word, rest, variables)?),
        "LABEL" => Instruction::Label(pairs(word, rest, variables)?),
        "WORKDIR" => Instruction::Workdir(unquoted(rest, variables)?),
        "USER" => Instruction::User(one_word(word, rest, variables)?),
        "STOPSIGNAL" => Instruction::StopSignal(signal(&one_word(word, rest, variables)?)?),
        "EXPOSE" => Instruction::Expose(ports(rest, variables)?),
        "HEALTHCHECK" => Instruction::Healthcheck(healthcheck(rest)?),
        _ => Instruction::Volume(volumes(rest, variables)?),
    })
}

/// A JSON array of strings is run as it is, anything else by a shell.
fn command(rest: &str) -> Vec<String> {
    exec_form(rest).unwrap_or_else(|| ["/bin/sh", "-c", rest].map(str::to_owned).to_vec())
}

fn exec_form(rest: &str) -> Option<Vec<String>> {
    rest.starts_with('[')
        .then(|| serde_json::from_str(rest).ok())
        .flatten()
}

/// `a=b c="d e"`, or in the old form `a b c`: one name, and the rest is its value.
fn pairs(
    word: &str,
    rest: &str,
    variables: &Variables<'_>,
) -> Result<Vec<(String, String)>, String> {
    let words = split(rest, variables)?;
    if !words[0].contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{word} needs name=value"))?;
        let pair = (
            unquoted(name, variables)?,
            unquoted(value.trim(), variables)?,
        );
        return Ok(vec![pair]);
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{word}: {text:?} is not name=value")),
    };
    words.iter().map(pair).collect()
}

fn set_env(env: &mut Vec<String>, (name, value): &(String, String)) {
    let setting = format!("{name}={value}");
    let same = |known: &&mut String| known.split('=').next() == Some(name);
    match env.iter_mut().find(same) {
        Some(known) => *known = setting,
        None => env.push(setting),
    }
}

/// A relative path goes on from where the last one led; `.` and `..` are resolved.
fn workdir(before: &str, path: &str) -> String {
    let whole = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("{before}/{path}")
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn one_word(word: &str, rest: &str, variables: &Variables<'_>) -> Result<String, String> {
    let words = split(rest, variables)?;
    match <[String; 1]>::try_from(words) {
        Ok([only]) if !only.is_empty() => Ok(only),
        _ => Err(format!("{word} needs exactly one argument")),
    }
}

/// A name with or without SIG, or a number.
fn signal(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let word = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_uppercase())
            && name
                .chars()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, '+' | '-'))
    };
    if text
        .parse::<u8>()
        .is_ok_and(|number| (1..=64).contains(&number))
        || word(&upper)
    {
        return Ok(upper);
    }
    Err(format!("{text:?} is no signal"))
}

/// `port`, `port/protocol`, `first-last/protocol`. One variable may stand for several.
fn ports(rest: &str, variables: &Variables<'_>) -> Result<Vec<String>, String> {
    let mut ports = Vec::new();
    let words = split(rest, variables)?;
    for word in words.iter().flat_map(|word| word.split_whitespace()) {
        let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{word:?} is no port"));
        };
        if !matches!(&*protocol, "tcp" | "udp" | "sctp") || first > last {
            return Err(format!("{word:?} is no port"));
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

fn volumes(rest: &str, variables: &Variables<'_>) -> Result<Vec<String>, String> {
    let paths = match exec_form(rest) {
        Some(paths) => {
            let paths = paths.iter().map(|path| unquoted(path, variables));
            paths.collect::<Result<_, _>>()?
        }
        None => split(rest, variables)?,
    };
    match paths.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(format!("VOLUME: {path:?} is not an absolute path")),
        None if paths.is_empty() => Err("VOLUME needs an argument".to_owned()),
        None => Ok(paths),
    }
}

/// `NONE`, or `[--interval=30s ...] CMD COMMAND`.
fn healthcheck(rest: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let wrong = || format!("HEALTHCHECK: --{flag} is no option such as --interval=30s");
        let time = || {
            let time = duration::parse(value).ok_or_else(wrong)?;
            i64::try_from(time.as_nanos()).map_err(|_| wrong())
        };
        match name {
            "interval" => check.interval = time()?,
            "timeout" => check.timeout = time()?,
            "start-period" => check.start_period = time()?,
            "start-interval" => check.start_interval = time()?,
            "retries" => check.retries = value.parse::<u32>().map_err(|_| wrong())?.into(),
            _ => return Err(wrong()),
        }
        rest = after.trim_start();
    }
    let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    check.test = match word.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() && check == Healthcheck::default() => vec!["NONE".to_owned()],
        "CMD" if !line.is_empty() => match exec_form(line) {
            Some(words) => ["CMD".to_owned()].into_iter().chain(words).collect(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        _ => return Err("HEALTHCHECK needs NONE, or CMD and a command".to_owned()),
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> String {
        let mut config = Config::default();
        for change in changes {
            Change::parse(change).unwrap().apply(&mut config).unwrap();
        }
        serde_json::to_string(&config).unwrap()
    }

    #[test]
    fn variables_are_those_of_the_config_by_then() {
        for (changes, config) in [
            (
                &["ENV PATH=/bin", "ENV PATH=$PATH:/opt A=${PATH}x"][..],
                r#"{"Env":["PATH=/bin:/opt","A=/binx"]}"#,
            ),
            (
                &["ENV A=1\nENV B=$A \\\n C=2"],
                r#"{"Env":["A=1","B=1","C=2"]}"#,
            ),
            (
                &[
                    "ENV D=/d P='80 81'",
                    "WORKDIR $D/e",
                    "USER ${U:-me}",
                    "EXPOSE $P",
                    "VOLUME [\"$D\"]",
                ],
                r#"{"User":"me","ExposedPorts":{"80/tcp":{},"81/tcp":{}},"Env":["D=/d","P=80 81"],"Volumes":{"/d":{}},"WorkingDir":"/d/e"}"#,
            ),
            (
                &["ENV S=QUIT", "STOPSIGNAL SIG$S", "LABEL a=$S b='$S' c=\\$S"],
                r#"{"Env":["S=QUIT"],"Labels":{"a":"QUIT","b":"$S","c":"$S"},"StopSignal":"SIGQUIT"}"#,
            ),
            (&["CMD echo $A"], r#"{"Cmd":["/bin/sh","-c","echo $A"]}"#),
        ] {
            let config: serde_json::Value = serde_json::from_str(config).unwrap();
            let applied: serde_json::Value = serde_json::from_str(&applied(changes)).unwrap();
            assert_eq!(applied, config, "{changes:?}");
        }
    }

    #[test]
    fn what_a_variable_makes_wrong_is_said_when_it_is_known() {
        let change = Change::parse("EXPOSE $PORT").unwrap();
        let mut config = Config {
            env: vec!["PORT=x".into()],
            ..Config::default()
        };
        let error = change.apply(&mut config).unwrap_err().to_string();
        assert!(error.contains("\"x\" is no port"), "{error}");
    }

    #[test]
    fn instructions_change_the_config_as_in_a_dockerfile() {
        for (changes, config) in [
            (&[r#"CMD ["a","b c"]"#][..], r#"{"Cmd":["a","b c"]}"#),
            (
                &["cmd echo $HOME"],
                r#"{"Cmd":["/bin/sh","-c","echo $HOME"]}"#,
            ),
            (
                &["CMD [not json"],
                r#"{"Cmd":["/bin/sh","-c","[not json"]}"#,
            ),
            (&["ENTRYPOINT []"], r#"{"Entrypoint":[]}"#),
            (
                &["ENV A=1 B=\"2 3\" C='4 \"5'", "ENV A=9"],
                r#"{"Env":["A=9","B=2 3","C=4 \"5"]}"#,
            ),
            (&["ENV A b  c"], r#"{"Env":["A=b  c"]}"#),
            (&[r"ENV A=b\ c"], r#"{"Env":["A=b c"]}"#),
            (
                &["WORKDIR /a", "WORKDIR b/../c"],
                r#"{"WorkingDir":"/a/c"}"#,
            ),
            (&["USER me:us"], r#"{"User":"me:us"}"#),
            (
                &["EXPOSE 80 53/UDP 8000-8001"],
                r#"{"ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}}}"#,
            ),
            (
                &["LABEL a.b=c \"d e\"=f"],
                r#"{"Labels":{"a.b":"c","d e":"f"}}"#,
            ),
            (
                &["VOLUME [\"/a\"]", "VOLUME /b /c"],
                r#"{"Volumes":{"/a":{},"/b":{},"/c":{}}}"#,
            ),
            (&["STOPSIGNAL sigquit"], r#"{"StopSignal":"SIGQUIT"}"#),
            (&["STOPSIGNAL 9"], r#"{"StopSignal":"9"}"#),
            (
                &["HEALTHCHECK NONE"],
                r#"{"Healthcheck":{"Test":["NONE"]}}"#,
            ),
            (
                &["HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f http://localhost"],
                r#"{"Healthcheck":{"Test":["CMD-SHELL","curl -f http://localhost"],"Interval":90000000000,"Retries":2}}"#,
            ),
            (
                &[r#"healthcheck --start-period=1s cmd ["a","b"]"#],
                r#"{"Healthcheck":{"Test":["CMD","a","b"],"StartPeriod":1000000000}}"#,
            ),
        ] {
            assert_eq!(applied(changes), config);
        }
    }

    #[test]
    fn a_wrong_instruction_is_named() {
        for (text, expected) in [
            ("", "must be one of"),
            ("RUN x", "must be one of"),
            ("CMD", "CMD needs"),
            ("ENV A", "ENV needs name=value"),
            ("ENV A=1 B", "\"B\" is not name=value"),
            ("ENV A=\"1", "not closed"),
            ("USER a b", "USER needs exactly one"),
            ("EXPOSE 0", "\"0\" is no port"),
            ("EXPOSE 80/icmp", "\"80/icmp\" is no port"),
            ("EXPOSE 9-8", "\"9-8\" is no port"),
            ("VOLUME a", "\"a\" is not an absolute path"),
            ("STOPSIGNAL 99", "\"99\" is no signal"),
            ("HEALTHCHECK curl", "needs NONE, or CMD"),
            ("HEALTHCHECK --interval=1s NONE", "needs NONE, or CMD"),
            (
                "HEALTHCHECK --interval=1 CMD a",
                "--interval=1 is no option",
            ),
        ] {
            let error = Change::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
