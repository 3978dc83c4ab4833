//! One more command in a container that runs: the container's own process, with what the user wants
//! otherwise. Pure.

use oci_spec::runtime::UserBuilder;
use oci_spec::runtime::{Capabilities, LinuxCapabilitiesBuilder, Process, Spec};

use super::Error;

/// `mybox exec`, understood once.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The command line.
    pub command: Vec<String>,
    /// Variables in the order given; a later one wins.
    pub env: Vec<(String, String)>,
    /// Working directory, if not the container's.
    pub workdir: Option<String>,
    /// `user[:group]`, if not the container's.
    pub user: Option<String>,
    /// Keep standard input open.
    pub interactive: bool,
    /// Give it a terminal.
    pub terminal: bool,
    /// Do not wait for it.
    pub detach: bool,
    /// All capabilities, and no filter of system calls.
    pub privileged: bool,
}

/// The process that is executed beside the spec's own. `held` are mybox's own capabilities: nobody
/// can give what he does not have.
pub fn process(spec: &Spec, request: &ExecRequest, held: &Capabilities) -> Result<Process, Error> {
    let mut process = spec.process().clone().ok_or(Error::NoCommand)?;
    process.set_terminal(Some(request.terminal));
    process.set_args(Some(request.command.clone()));
    process.set_env(Some(environment(&process, request)));
    if let Some(dir) = &request.workdir {
        if !dir.starts_with('/') {
            let text = format!("the working directory `{dir}` is not an absolute path");
            return Err(Error::Conflict(text));
        }
        process.set_cwd(dir.into());
    }
    if let Some(user) = &request.user {
        process.set_user(UserBuilder::default().username(user).build()?);
    }
    if request.privileged {
        let all = LinuxCapabilitiesBuilder::default()
            .bounding(held.clone())
            .effective(held.clone())
            .permitted(held.clone());
        process.set_capabilities(Some(all.build()?));
        process.set_no_new_privileges(Some(false));
    }
    Ok(process)
}

/// The container's variables, then the user's.
fn environment(process: &Process, request: &ExecRequest) -> Vec<String> {
    let mut lines = process.env().clone().unwrap_or_default();
    let is_of = |line: &str, name: &str| line.split('=').next() == Some(name);
    if request.terminal && !lines.iter().any(|line| is_of(line, "TERM")) {
        lines.push("TERM=xterm".to_owned());
    }
    for (name, value) in &request.env {
        lines.retain(|line| !is_of(line, name));
        lines.push(format!("{name}={value}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::capabilities::ALL;
    use oci_spec::runtime::{ProcessBuilder, SpecBuilder};

    fn held() -> Capabilities {
        ALL.into_iter().collect()
    }

    fn spec() -> Spec {
        let process = ProcessBuilder::default()
            .args(["serve".to_owned()])
            .env(["PATH=/bin".to_owned(), "A=1".to_owned()])
            .cwd("/srv")
            .no_new_privileges(true);
        let process = process.build().unwrap();
        SpecBuilder::default().process(process).build().unwrap()
    }

    #[test]
    fn what_nobody_asks_for_is_the_containers() {
        let request = ExecRequest {
            command: vec!["ls".into()],
            ..ExecRequest::default()
        };
        let planned = process(&spec(), &request, &held()).unwrap();
        assert_eq!(planned.args().as_deref().unwrap(), ["ls"]);
        assert_eq!(planned.env().as_deref().unwrap(), ["PATH=/bin", "A=1"]);
        assert_eq!(planned.cwd().to_str(), Some("/srv"));
        assert_eq!(planned.no_new_privileges(), Some(true));
    }

    #[test]
    fn what_is_asked_for_replaces_it() {
        let request = ExecRequest {
            command: vec!["ls".into()],
            env: vec![("A".into(), "2".into()), ("B".into(), "x=y".into())],
            workdir: Some("/".into()),
            user: Some("www".into()),
            terminal: true,
            privileged: true,
            ..ExecRequest::default()
        };
        let planned = process(&spec(), &request, &held()).unwrap();
        let env = planned.env().as_deref().unwrap();
        assert_eq!(env, ["PATH=/bin", "TERM=xterm", "A=2", "B=x=y"]);
        assert_eq!(planned.cwd().to_str(), Some("/"));
        assert_eq!(planned.user().username().as_deref(), Some("www"));
        assert_eq!(planned.no_new_privileges(), Some(false));
        let capabilities = planned.capabilities().clone().unwrap();
        assert_eq!(capabilities.effective().clone().unwrap().len(), ALL.len());
        let relative = ExecRequest {
            workdir: Some("here".into()),
            ..ExecRequest::default()
        };
        let error = process(&spec(), &relative, &held())
            .unwrap_err()
            .to_string();
        assert!(error.contains("`here`"), "{error}");
    }
}
