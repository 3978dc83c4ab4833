//! Registries: who may ask, whom to believe, where to look, and how long to wait.

mod accounts;
mod login;
mod media_types;
mod names;
mod network;
mod push;

use std::path::PathBuf;

use crate::harness::registry::TestImage;
use crate::harness::{Cmd, Rootfs, Sandbox};

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
        let proxies = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"];
        let lower = proxies.map(str::to_lowercase);
        let names = proxies.into_iter().chain(lower.iter().map(String::as_str));
        names
            .fold(command, |command, name| command.env(name, ""))
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

/// An image that no other is like, of so many layers.
fn image(name: &str, layers: usize) -> TestImage {
    let layer = |number| Rootfs::empty().file(&format!("file{number}"), name);
    TestImage::new((0..layers).map(layer))
}

/// `mybox pull --quiet NAME`, by this user. Its output is a digest.
fn pull(sandbox: &Sandbox, home: &Home, name: &str) -> Cmd {
    home.run_by(sandbox.mybox(["pull", "--quiet", name]))
}

/// An image with a layer of so many bytes that do not compress.
fn large_image(bytes: usize) -> TestImage {
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(bytes)
    .collect();
    TestImage::new([Rootfs::empty().file_with("noise", &noise, |_| {})])
}
