//! What can go wrong, as kinds. Each says the operation and its object; the errno is the source.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::{DiffId, Digest};
use crate::platform::Platform;

/// The result of everything the store does.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed; the errno is the source.
    #[error("cannot {operation} {object}")]
    Io {
        /// What was attempted, as a verb: "create", "rename".
        operation: &'static str,
        /// On what: a path, mostly.
        object: String,
        /// The errno.
        source: io::Error,
    },
    /// A system call failed while one entry of an archive was laid down or packed.
    #[error("entry {entry}: cannot {operation}")]
    EntryIo {
        /// The entry's name, escaped for display.
        entry: String,
        /// What was attempted.
        operation: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// An entry of an archive or of a tree that a layer cannot hold.
    #[error("entry {entry}: {reason}")]
    BadEntry {
        /// The entry's name, escaped for display.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that is no whole tar.
    #[error("bad tar archive at byte {offset}: {reason}")]
    BadArchive {
        /// Where in the uncompressed archive.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// Input that is no archive, or in a form that is not accepted.
    #[error("{name}: {reason}")]
    BadInput {
        /// The input's name as the caller gave it.
        name: String,
        /// What it is instead.
        reason: String,
    },
    /// The input does not decompress.
    #[error("{name}: cannot read its {format} data")]
    Decompress {
        /// The input's name as the caller gave it.
        name: String,
        /// gzip, zstd, xz, bzip2 or tar (for a read error of the plain input).
        format: &'static str,
        /// What the decoder or the input said.
        source: io::Error,
    },
    /// Decoding the input would take more memory than the store allows itself.
    #[error(
        "{name}: its {format} data needs {needed} to decode, the limit is {limit_mib} MiB; {advice}"
    )]
    DecoderMemory {
        /// The input's name as the caller gave it.
        name: String,
        /// zstd or xz.
        format: &'static str,
        /// How much it needs, in words.
        needed: String,
        /// How much it may have.
        limit_mib: u64,
        /// How to make it fit.
        advice: &'static str,
    },
    /// The uncompressed input is larger than the caller allows.
    #[error("{name}: more than {limit} bytes when uncompressed, the limit that was set")]
    TooLarge {
        /// The input's name as the caller gave it.
        name: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// A `--change` that is no Dockerfile instruction, or not one an image config can hold.
    #[error("change {text:?}: {reason}")]
    BadChange {
        /// The instruction as given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Text that is no image reference.
    #[error("invalid reference {text:?}: {reason}")]
    BadReference {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Text that is no sha256 digest.
    #[error("invalid digest {text:?}: expected sha256: and 64 lowercase hex digits")]
    BadDigest {
        /// The text as given.
        text: String,
    },
    /// Text that is no platform.
    #[error("invalid platform {text:?}: expected os/architecture or os/architecture/variant")]
    BadPlatform {
        /// The text as given.
        text: String,
    },
    /// A digest or name that fits nothing in the store.
    #[error("there is no blob, no layer and no image {name} in the store")]
    NoSuchObject {
        /// The digest's beginning or the name, as given.
        name: String,
    },
    /// A name that fits no image.
    #[error("no such image: {name}")]
    NoSuchImage {
        /// The name as given.
        name: String,
    },
    /// An image there is, but not for this platform.
    #[error("{name} has no image for {wanted}, {}", alternatives(offered))]
    NoSuchPlatform {
        /// The name as given.
        name: String,
        /// What was asked for.
        wanted: Platform,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// No plan of gc is kept under this id.
    #[error("no plan {id}: there was none, or it is older than a day, or it was carried out")]
    NoSuchPlan {
        /// The id as given.
        id: String,
    },
    /// A plan of gc that does not fit the store any more. Nothing was removed.
    #[error("plan {id} is out of date, nothing was removed: {object}: {reason}")]
    StalePlan {
        /// The plan's id.
        id: String,
        /// The first object that is in the way.
        object: String,
        /// What has happened to it.
        reason: String,
    },
    /// A prefix that fits several images.
    #[error("{prefix} is ambiguous: it fits {}", list(matches))]
    Ambiguous {
        /// The prefix as given.
        prefix: String,
        /// What it fits: image ids.
        matches: Vec<Digest>,
    },
    /// An image named by its id cannot be removed since it has several tags.
    #[error("image {} has several tags: {}", image.short(), references.join(", "))]
    SeveralTags {
        /// The image id.
        image: Digest,
        /// Its references, canonical.
        references: Vec<String>,
    },
    /// An image named by its id cannot be removed since its name is that of other platforms' too.
    #[error("image {} is one platform's of {reference}, which has others too", image.short())]
    OnePlatform {
        /// The image id.
        image: Digest,
        /// The name, canonical.
        reference: String,
    },
    /// An index that is to go elsewhere whole, and of which only some images are here.
    #[error("{name} names images that are not here: {}", missing.join(", "))]
    PartOfIndex {
        /// The name as given.
        name: String,
        /// The images' platforms, or their digests.
        missing: Vec<String>,
    },
    /// An image that containers are made of.
    #[error("image {} is used by {}", image.short(), containers.join(", "))]
    InUse {
        /// The image id.
        image: Digest,
        /// The containers' ids.
        containers: Vec<String>,
    },
    /// A manifest that is no image, or one this store cannot hold.
    #[error("cannot use {object}: {reason}")]
    Unsupported {
        /// What it is: a manifest and its digest.
        object: String,
        /// Why not.
        reason: String,
    },
    /// Something that arrived and is not what it was announced as.
    #[error("{object}: expected {expected}, got {found}")]
    Mismatch {
        /// What it is called: a blob and its digest.
        object: String,
        /// What it should have been.
        expected: String,
        /// What it is.
        found: String,
    },
    /// An object of the store that is missing or does not say what it should.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object's path or digest.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer that would have to be made from a blob, where none is left.
    #[error("layer {layer} cannot be made anew: its blob {blob} is not in the store")]
    NoBlob {
        /// The layer.
        layer: DiffId,
        /// The blob that it was made from.
        blob: Digest,
    },
    /// A layer of an image that is to be looked at and was removed, or never made.
    #[error("layer {layer} is not there, or not any more")]
    NotLaidDown {
        /// The layer.
        layer: DiffId,
    },
    /// JSON in the store that does not parse.
    #[error("cannot read {object} as JSON")]
    Json {
        /// The object's path or digest.
        object: String,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// A store that a newer mybox has made.
    #[error(
        "the store {root} has format {found}; this mybox knows formats up to {known}: use a newer mybox"
    )]
    NewerStore {
        /// The store's root.
        root: PathBuf,
        /// The format the store has.
        found: u64,
        /// The newest format this crate knows.
        known: u64,
    },
    /// A directory that holds something else.
    #[error("{root} is not a store: it holds {found:?}; give an empty directory or a new one")]
    NotAStore {
        /// The directory.
        root: PathBuf,
        /// A name found in it that no store has.
        found: String,
    },
}

fn alternatives(offered: &[Platform]) -> String {
    match offered {
        [] => "nor for any other platform".to_owned(),
        offered => {
            let offered: Vec<String> = offered.iter().map(ToString::to_string).collect();
            format!("only for {}", offered.join(", "))
        }
    }
}

fn list(digests: &[Digest]) -> String {
    digests
        .iter()
        .map(Digest::short)
        .collect::<Vec<_>>()
        .join(", ")
}

impl Error {
    /// Whether something is simply not there.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    pub(crate) fn io(
        operation: &'static str,
        object: impl Display,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Io {
            operation,
            object: object.to_string(),
            source: source.into(),
        }
    }

    pub(crate) fn entry_io(
        entry: &[u8],
        operation: &'static str,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::EntryIo {
            entry: show(entry),
            operation,
            source: source.into(),
        }
    }

    pub(crate) fn bad_entry(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::BadEntry {
            entry: show(entry),
            reason: reason.into(),
        }
    }

    pub(crate) fn damaged(object: impl Display, reason: impl Into<String>) -> Self {
        Self::Damaged {
            object: object.to_string(),
            reason: reason.into(),
        }
    }

    pub(crate) fn json(object: impl Display, source: serde_json::Error) -> Self {
        Self::Json {
            object: object.to_string(),
            source,
        }
    }
}

/// Adds operation and object to the error of a system call.
pub(crate) trait Context<T> {
    fn on_path(self, operation: &'static str, path: &Path) -> Result<T>;
    fn on(self, operation: &'static str, object: impl FnOnce() -> String) -> Result<T>;
    fn on_entry(self, operation: &'static str, entry: &[u8]) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn on_path(self, operation: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| Error::io(operation, path.display(), source))
    }

    fn on(self, operation: &'static str, object: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::io(operation, object(), source))
    }

    fn on_entry(self, operation: &'static str, entry: &[u8]) -> Result<T> {
        self.map_err(|source| Error::entry_io(entry, operation, source))
    }
}

/// A name from an archive as one line of text: control characters escaped, never longer than a
/// terminal can bear.
pub(crate) fn show(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let shown = &name[..name.len().min(LONGEST)];
    let mut text = String::new();
    for chunk in shown.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() || character == '\\' {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if name.len() > LONGEST {
        text.push_str(&format!("... ({} bytes)", name.len()));
    }
    if text.is_empty() {
        "\"\"".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::show;

    #[test]
    fn names_are_shown_on_one_line_whatever_they_hold() {
        assert_eq!(show(b"usr/bin/env"), "usr/bin/env");
        assert_eq!(show(b"a\nb\x1b[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(show("na\u{ef}ve".as_bytes()), "na\u{ef}ve");
        assert_eq!(show(b"\xff\xfe"), "\\xff\\xfe");
        assert_eq!(show(b""), "\"\"");
        assert!(show(&[b'x'; 5000]).ends_with("... (5000 bytes)"));
    }
}
