//! Registries: who may ask, whom to believe, where to look, and how long to wait.

mod login;

use std::path::PathBuf;

use crate::harness::{Cmd, Sandbox};

/// A user's configuration, apart from that of whoever runs the tests.
struct Home {
    directory: PathBuf,
}

impl Home {
    fn of(sandbox: &Sandbox) -> Self {
        let directory = sandbox.scratch().join("home");
        std::fs::create_dir_all(directory.join("run")).expect("home");
        Self { directory }
    }

    /// Docker's file.
    fn docker(&self) -> PathBuf {
        self.directory.join(".docker/config.json")
    }

    /// Writes a file of the user's.
    #[track_caller]
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.join(name);
        std::fs::create_dir_all(path.parent().expect("below home")).expect("directory");
        std::fs::write(&path, text).expect("write a file of the user's");
        path
    }

    #[track_caller]
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.join(name)).expect("a file of the user's")
    }

    /// The command, run by this user.
    fn run_by(&self, command: Cmd) -> Cmd {
        command
            .env("HOME", &self.directory)
            .env("DOCKER_CONFIG", "")
            .env("REGISTRY_AUTH_FILE", "")
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.directory.join("registries.conf"),
            )
            .env("XDG_CONFIG_HOME", "")
            .env("XDG_RUNTIME_DIR", self.directory.join("run"))
    }
}
