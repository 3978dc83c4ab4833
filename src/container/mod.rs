//! What is known of containers, and where it is kept.
//!
//! ```text
//! <root>/containers/<id>/         lives until `rm`, or the end of the run with --rm
//!   record.json                   what was asked, what was made on the host, how it ended
//!   ending                        how it ended, if there was no room for that in the record (container::ending)
//!   request.json                  what was asked: each start goes by it
//!   logs/<number>                 what it has written (container::log)
//!   health.json                   what its health checks say (container::health)
//!   config.json                   the OCI runtime spec it was launched from
//!   upper/ work/ rootfs/          the overlay's own directories; rootfs is where it is mounted
//!   images/                       an empty layer and places on the way for images that are mounted
//!   filled                        its volumes have had what the image has in their places
//!   hostname hosts resolv.conf    bound over the image's
//! <root>/containers/names/<name>  -> ../<id>; made atomically, so a name has one container
//! <root>/volumes/<name>/          volumes (container::volume)
//! <run root>/containers/<id>/     exists while something of the container may be on the host
//!   pid                           pid and start time of its first process
//!   stop                          somebody has asked for it to end
//!   still                         it stands still for a `commit` (container::stillness)
//!   input                         the socket of `attach` (life::attach)
//! <run root>/events.json          what has happened (container::events)
//! <run root>/layer-forms/<device>.forms  which forms of layers the kernel can use (life::forms)
//! <run root>/mounts/<files>       who has the mount of these files (life::mounts)
//! <run root>/ports/<protocol>-<ip>-<port> -> <id>; made atomically, so a port has one container
//! <run root>/leases/<bridge>/<ip> -> <id>; made atomically, so an address has one container
//! ```
//! The directory under the run root carries an flock for as long as its supervisor lives. Whoever
//! can take that lock knows that the supervisor is dead, and takes everything down.

pub mod claim;
pub mod ending;
pub mod events;
pub mod find;
pub mod health;
pub mod id;
pub mod log;
pub mod names;
pub mod port;
pub mod record;
pub mod rename;
pub mod stillness;
pub mod volume;

use std::path::{Path, PathBuf};

pub use claim::Claim;
pub use id::ContainerId;
pub use record::{Ending, MountedImage, Record, RestartPolicy, Timeout};

/// Where mybox keeps things, and which bridge it uses.
#[derive(Debug, Clone)]
pub struct Places {
    /// Images, layers, containers: survives a reboot.
    pub root: PathBuf,
    /// Volatile state: vanishes with a reboot.
    pub run_root: PathBuf,
    /// Name of the bridge.
    pub bridge: String,
}

impl Places {
    /// All containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The directory of one container.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.containers().join(id.as_str())
    }

    /// The links from names to containers.
    pub fn names(&self) -> PathBuf {
        self.containers().join("names")
    }

    /// All volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The directory of one volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// Containers of which something may be on the host.
    pub fn live(&self) -> PathBuf {
        self.run_root.join("containers")
    }

    /// The volatile directory of one container.
    pub fn live_container(&self, id: &ContainerId) -> PathBuf {
        self.live().join(id.as_str())
    }

    /// Who shares which mount.
    pub fn mounts(&self) -> PathBuf {
        self.run_root.join("mounts")
    }

    /// The addresses that are taken on the bridge.
    pub fn leases(&self) -> PathBuf {
        self.run_root.join("leases").join(&self.bridge)
    }

    /// The ports of the host that are published.
    pub fn ports(&self) -> PathBuf {
        self.run_root.join("ports")
    }

    /// What has happened.
    pub fn events(&self) -> PathBuf {
        self.run_root.join("events.json")
    }

    /// What had happened before that.
    pub fn old_events(&self) -> PathBuf {
        self.run_root.join("events.json.old")
    }

    /// What is remembered of the bridge.
    pub fn network(&self) -> PathBuf {
        self.root
            .join("networks")
            .join(format!("{}.json", self.bridge))
    }
}

/// The files and directories of one container under the root.
#[derive(Debug, Clone)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Of the container in `dir`.
    pub fn of(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the container's changes go.
    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    /// OverlayFS's scratch directory.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// Where the overlay is mounted, in the container's mount namespace only.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// An empty directory: below the layers of each image that the container can read, and in the place of
    /// its own where there are none.
    pub fn empty_layer(&self) -> PathBuf {
        self.dir.join("images/empty")
    }

    /// Where such an image is mounted on its way, in the container's mount namespace only.
    pub fn image_place(&self, number: usize) -> PathBuf {
        self.dir.join("images").join(number.to_string())
    }

    /// There if its volumes have had what the image has in their places.
    pub fn filled(&self) -> PathBuf {
        self.dir.join("filled")
    }

    /// The OCI runtime spec.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }

    /// What was asked for.
    pub fn request(&self) -> PathBuf {
        self.dir.join("request.json")
    }

    /// What its health checks say.
    pub fn health(&self) -> PathBuf {
        self.dir.join("health.json")
    }

    /// What it has written.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// One of hostname, hosts, resolv.conf.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}
