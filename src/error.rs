//! What the user sees when something fails: what failed and on what, the causes down to errno, a
//! hint, and the exit code.
//!
//! ```text
//! error: cannot start web: mount overlay on /: EINVAL (Invalid argument)
//! caused by: ...
//! hint: the upper directory may itself be on overlayfs; try --root on another filesystem
//! ```

use std::io::Write;

use crate::net::bridge;

/// A name that neither a container nor an image has.
#[derive(Debug, thiserror::Error)]
#[error("no such container or image: {0}")]
pub struct NoSuchName(pub String);

/// A failure of a verb, ready to be shown.
#[derive(Debug)]
pub struct Failure {
    /// The process's exit code.
    pub code: u8,
    error: anyhow::Error,
    hint: Option<String>,
}

impl Failure {
    /// A failure with an exit code of its own.
    pub fn with_code(code: u8, error: anyhow::Error) -> Self {
        let hint = hint_for(&error);
        Self { code, error, hint }
    }

    /// Prints it to standard error.
    pub fn show(&self) {
        let mut stderr = std::io::stderr().lock();
        // Where standard error is closed there is nobody to tell.
        let _ = write!(stderr, "{}", harmless(&self.text()));
    }

    fn text(&self) -> String {
        let mut causes: Vec<String> = self.error.chain().map(ToString::to_string).collect();
        // A message that ends in its own cause's text needs no line for the cause.
        causes.dedup_by(|cause, before| before.ends_with(cause.as_str()));
        let mut causes = causes.into_iter();
        let mut text = format!("error: {}\n", causes.next().unwrap_or_default());
        for cause in causes {
            text.push_str(&format!("caused by: {cause}\n"));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }
}

/// Names in a message may come from an image: control characters are shown, not obeyed.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::with_code(1, error.into())
    }
}

/// The next step, where the cause tells it.
fn hint_for(error: &anyhow::Error) -> Option<String> {
    use mybox_store::Error as Store;
    for cause in error.chain() {
        if cause.is::<NoSuchName>() {
            let hint = "`mybox ps -a` lists the containers there are, `mybox images` the images";
            return Some(hint.to_owned());
        }
        if let Some(store) = cause.downcast_ref::<Store>() {
            let hint = match store {
                Store::NoSuchImage { .. } => {
                    "`mybox images` lists the images there are, `mybox pull NAME` fetches one, \
                     `mybox import FILE|DIR NAME` makes one"
                }
                Store::NoSuchObject { .. } => {
                    "`mybox layers` lists the layers there are, `mybox images` the images"
                }
                Store::NoBlob { .. } => {
                    "`mybox layers` says which images have the layer; `mybox rmi` and `mybox pull` \
                     of one lay it down anew"
                }
                Store::NotLaidDown { .. } => "`mybox pull` of its image brings it",
                Store::Damaged { .. } => "`mybox verify --repair` mends what can be mended",
                Store::Ambiguous { .. } => "give more digits of the id",
                Store::SeveralTags { .. } => "name one of the tags, or use --force",
                Store::OnePlatform { .. } => {
                    "remove that name, or use --force: all its platforms go"
                }
                Store::PartOfIndex { .. } => {
                    "`mybox pull -a` of that name fetches them; an image's id names it alone"
                }
                Store::InUse { .. } => {
                    "remove the containers first (`mybox rm`), or use --force to take the name only"
                }
                Store::NoSuchPlatform { .. } => "`mybox pull --platform` fetches another platform",
                Store::NoSuchPlan { .. } | Store::StalePlan { .. } => {
                    "`mybox gc --dry-run` makes a new plan"
                }
                _ => continue,
            };
            return Some(hint.to_owned());
        }
        if let Some(registry) = cause.downcast_ref::<crate::registry::Error>()
            && let Some(hint) = registry_hint(registry)
        {
            return Some(hint);
        }
        if let Some(bridge::Error::Damaged { bridge, .. }) = cause.downcast_ref() {
            return Some(format!(
                "`mybox network rm {bridge}` removes the bridge with its record, the next run makes both anew"
            ));
        }
        if let Some(kernel) = cause.downcast_ref::<crate::kernel::Error>()
            && let Some(hint) = kernel_hint(kernel)
        {
            return Some(hint.to_owned());
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && let Some(hint) = errno_hint(io.raw_os_error())
        {
            return Some(hint.to_owned());
        }
    }
    None
}

fn registry_hint(error: &crate::registry::Error) -> Option<String> {
    use crate::registry::{Account, Error};
    Some(match error {
        Error::Denied {
            registry, account, ..
        } => match account {
            Account::Anonymous => {
                format!("it may be private, or not be there: `mybox login {registry}`")
            }
            Account::User(_) | Account::Token => {
                format!("`mybox login {registry}` with an account that may do this")
            }
        },
        Error::Untrusted {
            registry,
            unknown_ca: true,
            ..
        } => format!(
            "put its certificate authority in /etc/docker/certs.d/{registry}/ca.crt, \
             or name the file with --tls-ca"
        ),
        Error::NotTls { registry } => {
            format!("if {registry} is meant to speak plain HTTP, --insecure allows it")
        }
        _ => return None,
    })
}

const ON_OVERLAYFS: &str =
    "the store may itself be on overlayfs; try --root on another file system";

fn kernel_hint(error: &crate::kernel::Error) -> Option<&'static str> {
    match (error.operation.as_str(), error.errno) {
        ("create file system", libc::EINVAL) if error.object == "overlay" => Some(ON_OVERLAYFS),
        ("set upper directory", libc::EINVAL) => Some(ON_OVERLAYFS),
        ("mount erofs", libc::ENOTBLK | libc::ENODEV) => Some(
            "this kernel mounts no plain files, or none that lie on this file system; \
             `mybox layers convert --to unpacked` unpacks layers",
        ),
        ("clone the mount of", libc::ENOENT) => {
            Some("a volume's source must exist: make it first, as with mkdir -p")
        }
        (_, errno) => errno_hint(Some(errno)),
    }
}

fn errno_hint(errno: Option<i32>) -> Option<&'static str> {
    match errno? {
        libc::EPERM | libc::EACCES if !rustix::process::geteuid().is_root() => {
            Some("mybox needs root: try sudo")
        }
        libc::EROFS => Some("the file system is read-only; --root and --run-root choose others"),
        libc::ENOSPC => Some(
            "the disk is full; `mybox df` shows what takes the room, `mybox prune` and `mybox gc` make \
             some",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn message_causes_and_hint_stand_on_lines_of_their_own() {
        let error = std::fs::File::open("/nonexistent")
            .context("read the settings")
            .unwrap_err();
        assert_eq!(
            Failure::from(error).text(),
            "error: read the settings\ncaused by: No such file or directory (os error 2)\n"
        );
    }

    #[test]
    fn control_characters_of_an_image_reach_no_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
    }

    #[test]
    fn a_missing_image_says_where_to_look() {
        let error = mybox_store::Error::NoSuchImage {
            name: "nope".into(),
        };
        let text = Failure::from(error).text();
        assert!(
            text.starts_with("error: no such image: nope\nhint: "),
            "{text}"
        );
    }
}
