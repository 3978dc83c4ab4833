//! Where the configuration of Docker and Podman lies, by the variables of the environment that move
//! it. Read once; from there on it is data.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The variables that matter, and the user.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pub(super) home: Option<PathBuf>,
    /// `DOCKER_CONFIG`: a directory.
    pub(super) docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`.
    pub(super) registry_auth_file: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`.
    pub(super) registries_conf: Option<PathBuf>,
    pub(super) xdg_config_home: Option<PathBuf>,
    pub(super) xdg_runtime_dir: Option<PathBuf>,
    pub(super) user: u32,
}

impl Environment {
    /// The process's own.
    pub(super) fn current() -> Self {
        let variable = |name: &str| -> Option<PathBuf> {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            home: variable("HOME"),
            docker_config: variable("DOCKER_CONFIG"),
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            registries_conf: variable("CONTAINERS_REGISTRIES_CONF"),
            xdg_config_home: variable("XDG_CONFIG_HOME"),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR"),
            user: rustix::process::geteuid().as_raw(),
        }
    }

    /// Docker's `config.json`, where `login` writes to.
    pub(super) fn docker_config_file(&self) -> Option<PathBuf> {
        let of_home = || Some(self.home.as_ref()?.join(".docker"));
        let directory = self.docker_config.clone().or_else(of_home)?;
        Some(directory.join("config.json"))
    }

    /// The files that credentials are looked for in, in this order: the one that was named, then
    /// Docker's, then Podman's of this session, then Podman's that last.
    pub(super) fn auth_files(&self) -> Vec<PathBuf> {
        let podmans = |directory: &Path| directory.join("containers/auth.json");
        let run = PathBuf::from(format!("/run/containers/{}/auth.json", self.user));
        [
            self.registry_auth_file.clone(),
            self.docker_config_file(),
            self.xdg_runtime_dir.as_deref().map(podmans),
            Some(run),
            self.config_home().as_deref().map(podmans),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The files of `registries.conf`, each overriding what the ones before it say. Those in
    /// directories (`*.conf`) are told apart by the caller.
    pub(super) fn registries_files(&self) -> Vec<RegistriesFile> {
        use RegistriesFile::{Directory, One};
        if let Some(named) = &self.registries_conf {
            return vec![One(named.clone())];
        }
        let system = Path::new("/etc/containers");
        let own = self.config_home().map(|home| home.join("containers"));
        let main = own
            .iter()
            .map(|directory| directory.join("registries.conf"))
            .find(|path| path.exists())
            .unwrap_or_else(|| system.join("registries.conf"));
        let directories = [Some(system.to_owned()), own];
        let directories = directories
            .into_iter()
            .flatten()
            .map(|directory| Directory(directory.join("registries.conf.d")));
        std::iter::once(One(main)).chain(directories).collect()
    }

    /// Where the certificates of a registry may lie.
    pub(super) fn certificate_directories(&self, registry: &str) -> Vec<PathBuf> {
        let own = self
            .config_home()
            .map(|home| home.join("containers/certs.d"));
        [
            own,
            Some("/etc/containers/certs.d".into()),
            Some("/etc/docker/certs.d".into()),
        ]
        .into_iter()
        .flatten()
        .map(|directory| directory.join(OsStr::new(registry)))
        .collect()
    }

    fn config_home(&self) -> Option<PathBuf> {
        let of_home = || Some(self.home.as_ref()?.join(".config"));
        self.xdg_config_home.clone().or_else(of_home)
    }
}

/// One of the places of `registries.conf`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RegistriesFile {
    /// A file.
    One(PathBuf),
    /// All files `*.conf` in it, by name.
    Directory(PathBuf),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_looked_for_where_docker_and_podman_keep_them() {
        let mut environment = Environment {
            home: Some("/home/me".into()),
            ..Environment::default()
        };
        let files = |environment: &Environment| -> Vec<String> {
            let shown = |path: &PathBuf| path.display().to_string();
            environment.auth_files().iter().map(shown).collect()
        };
        assert_eq!(
            files(&environment),
            [
                "/home/me/.docker/config.json",
                "/run/containers/0/auth.json",
                "/home/me/.config/containers/auth.json"
            ]
        );
        environment.docker_config = Some("/d".into());
        environment.registry_auth_file = Some("/named.json".into());
        environment.xdg_runtime_dir = Some("/run/user/7".into());
        environment.xdg_config_home = Some("/c".into());
        environment.user = 7;
        assert_eq!(
            files(&environment),
            [
                "/named.json",
                "/d/config.json",
                "/run/user/7/containers/auth.json",
                "/run/containers/7/auth.json",
                "/c/containers/auth.json"
            ]
        );
    }

    #[test]
    fn a_file_of_registries_that_was_named_is_the_only_one() {
        let mut environment = Environment {
            xdg_config_home: Some("/nonexistent".into()),
            ..Environment::default()
        };
        assert_eq!(
            environment.registries_files(),
            [
                RegistriesFile::One("/etc/containers/registries.conf".into()),
                RegistriesFile::Directory("/etc/containers/registries.conf.d".into()),
                RegistriesFile::Directory("/nonexistent/containers/registries.conf.d".into()),
            ]
        );
        environment.registries_conf = Some("/my.conf".into());
        assert_eq!(
            environment.registries_files(),
            [RegistriesFile::One("/my.conf".into())]
        );
    }
}
