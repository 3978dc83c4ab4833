//! Import: a tar or a directory tree becomes an image of one layer.
//!
//! ```text
//! stream -> sniff, decompress --+
//!                               +-> ingest/tmp (the tar, hashed) -> layer -> blobs -> index.json
//! directory -> pack ------------+
//! ```
//!
//! The uncompressed tar is the layer's blob, byte for byte, so its digest is the diff id and does
//! not depend on how the input was compressed. Nothing that is written depends on the clock, the
//! host or the order of a directory: the same input gives the same digests everywhere.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::blob::Held;
use crate::change::Change;
use crate::compression::Decompressor;
use crate::digest::{DiffId, Digest, Hasher};
use crate::dir;
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::ingest::Temporary;
use crate::layer::source::Source;
use crate::layer::unpacked::TREE;
use crate::layer::{HeldLayer, Step};
use crate::layout::Store;
use crate::oci::config::{Config, History, ImageConfig, RootFs};
use crate::oci::manifest::{CONFIG, Descriptor, LAYER_TAR, MANIFEST, Manifest};
use crate::pack::{self, Tree};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::remove::{Removed, parts};
use crate::writeback::WriteBack;

const COPY_BUFFER: usize = 256 << 10;

/// What is imported.
pub enum ImportSource<'a> {
    /// A tar, plain or compressed with gzip, zstd, xz or bzip2.
    Stream {
        /// The bytes.
        reader: &'a mut dyn Read,
        /// What to call it in errors: a file's name, `standard input`.
        name: &'a str,
        /// How many bytes there are, if that is known: only for [`Progress`].
        total: Option<u64>,
    },
    /// A tree, without what is mounted in it.
    Directory(&'a Path),
}

/// How it is imported.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name the image gets; without one it is known by its digests.
    pub reference: Option<Reference>,
    /// Changes to the config, in order.
    pub changes: Vec<Change>,
    /// The comment in the image's history.
    pub message: Option<String>,
    /// The platform it is for; the running machine's if not given.
    pub platform: Option<Platform>,
    /// The most bytes the uncompressed tar may have.
    pub max_size: Option<u64>,
}

/// How far an import is. Told often: the receiver decides how often to show it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Reading the input: its own (compressed) bytes.
    Reading {
        /// So far.
        bytes: u64,
        /// In all, if known.
        total: Option<u64>,
    },
    /// Packing a directory: bytes of tar so far.
    Packing {
        /// Files, directories and the rest.
        entries: u64,
        /// Bytes of tar.
        bytes: u64,
    },
    /// Another process is unpacking the same layer; waiting for it.
    Waiting,
    /// Unpacking the layer.
    Unpacking {
        /// Entries so far.
        entries: u64,
        /// Bytes of tar so far.
        bytes: u64,
        /// Bytes of tar in all.
        total: u64,
    },
    /// Writing everything to the disk.
    Flushing,
    /// Something the user should know.
    Warning(Warning),
}

impl Progress {
    /// A step of laying down a layer of so many bytes of tar.
    pub(crate) fn of(step: Step, total: u64) -> Self {
        match step {
            Step::Waiting => Self::Waiting,
            Step::Unpacking { entries, bytes } => Self::Unpacking {
                entries,
                bytes,
                total,
            },
            Step::Flushing => Self::Flushing,
        }
    }
}

/// What an import left out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// A socket: it means nothing outside its process.
    SkippedSocket {
        /// Its path in the tree, escaped for display.
        path: String,
    },
    /// A file or directory that something is mounted on: it is packed empty.
    SkippedMount {
        /// Its path in the tree, escaped for display.
        path: String,
    },
    /// What an archive has beside its images: it is no image.
    SkippedArtifact {
        /// Its manifest.
        digest: Digest,
        /// Of what type it is.
        kind: String,
    },
    /// A file that somebody changed while it was read: it has the size that it had at first.
    Changed {
        /// Its path in the tree, escaped for display.
        path: String,
    },
}

impl std::fmt::Display for Warning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SkippedSocket { path } => write!(formatter, "{path}: a socket, left out"),
            Self::SkippedMount { path } => {
                write!(
                    formatter,
                    "{path}: something is mounted there, packed as empty"
                )
            }
            Self::SkippedArtifact { digest, kind } => {
                write!(formatter, "{digest}: an artifact of type {kind}, left out")
            }
            Self::Changed { path } => write!(formatter, "{path}: it changed while it was read"),
        }
    }
}

impl Store {
    /// Makes an image of one layer from a tar or a directory. Nothing stays if it fails.
    pub fn import(
        &self,
        source: ImportSource<'_>,
        options: &ImportOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image> {
        if let Some(reference) = options
            .reference
            .as_ref()
            .filter(|one| one.digest().is_some())
        {
            let reason = "an image cannot be imported under a digest";
            return Err(Error::BadReference {
                text: reference.to_string(),
                reason,
            });
        }
        let tar = self.take_in(source, options.max_size, progress)?;
        let layer = self.lay_down(&tar, progress)?;
        let digest = tar.digest;
        let mut published = vec![digest];
        let image = self.publish_image(tar, &layer, options, &mut published);
        drop(layer);
        if image.is_err() {
            self.take_back(&published, &[digest.into()]);
        }
        image
    }

    /// Blobs first, the index last. What is published is held until it is named there, and noted in
    /// `published` in case it never is.
    fn publish_image(
        &self,
        tar: TakenIn,
        layer: &HeldLayer,
        options: &ImportOptions,
        published: &mut Vec<Digest>,
    ) -> Result<Image> {
        let newest = layer.record.newest().rfc3339();
        let (digest, size) = (tar.digest, tar.size);
        let _blob = self.publish_taken_in(tar)?;
        let (config, _config) = self.put_json(CONFIG, &config(digest, &newest, options)?)?;
        published.push(config.digest);
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config,
            layers: vec![Descriptor::new(LAYER_TAR, digest, size)],
        };
        let (manifest, _manifest) = self.put_json(MANIFEST, &manifest)?;
        let manifest_digest = manifest.digest;
        published.push(manifest_digest);
        let mut locked = self.lock_index()?;
        let name = options.reference.as_ref().map(ToString::to_string);
        locked.index.add(manifest, name.as_deref());
        locked.save()?;
        let image = self.image_entered(&locked.index, manifest_digest)?;
        self.used(&image)?;
        Ok(image)
    }

    pub(crate) fn publish_taken_in(&self, tar: TakenIn) -> Result<Held> {
        let path = || self.blob_path(tar.digest);
        tar.write_back.finish().on("flush", path)?;
        self.publish_blob(tar.file, tar.digest)
    }

    /// Deletes what was published for an image that did not come to be, if nobody else needs it.
    /// The error that is reported is the one that came first.
    pub(crate) fn take_back(&self, blobs: &[Digest], layers: &[DiffId]) {
        let _ = self.lock_index().and_then(|locked| {
            self.delete_unneeded(&locked, parts(blobs, layers), &mut Removed::default())
        });
    }

    /// Brings the uncompressed tar into `ingest/`.
    fn take_in(
        &self,
        source: ImportSource<'_>,
        limit: Option<u64>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TakenIn> {
        let file = Temporary::file(self.ingest()).on_path("create a file in", self.root())?;
        match source {
            ImportSource::Stream {
                reader,
                name,
                total,
            } => {
                let mut sink = Sink::new(file, name, limit);
                decompress(reader, name, total, &mut sink, progress)?;
                sink.finish()
            }
            ImportSource::Directory(path) => {
                let name = path.display().to_string();
                let sink = Sink::new(file, &name, limit);
                let root = dir::open_path(path).on_path("open", path)?;
                packed(root, Tree::Still, BTreeSet::new(), sink, progress)
            }
        }
    }

    /// Brings the tar of an overlay's upper directory into `ingest/`.
    pub(crate) fn take_in_upper(
        &self,
        upper: &Path,
        leave_out: BTreeSet<Vec<u8>>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<TakenIn> {
        let file = Temporary::file(self.ingest()).on_path("create a file in", self.root())?;
        let name = upper.display().to_string();
        let root = dir::open_path(upper).on_path("open", upper)?;
        let sink = Sink::new(file, &name, None);
        packed(root, Tree::Upper, leave_out, sink, progress)
    }

    /// Packs the tree of an unpacked layer: its tar again, if it was packed here in the first place.
    pub(crate) fn pack_layer(&self, layer: DiffId) -> Result<(Temporary<File>, Digest)> {
        let path = Path::new(&self.layer_path(layer)).join(TREE);
        let source = ImportSource::Directory(&path);
        let tar = self.take_in(source, None, &mut |_| {})?;
        Ok((tar.file, tar.digest))
    }

    pub(crate) fn lay_down(
        &self,
        tar: &TakenIn,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<HeldLayer> {
        let (digest, total) = (tar.digest, tar.size);
        let file = tar.file.content().try_clone();
        let mut file = file.on("open", || "the uncompressed tar".to_owned())?;
        let source = Source::of_tar(&mut file, Some(tar.file.place()));
        self.make_layer(digest.into(), digest, source, &mut |step| {
            progress(Progress::of(step, total));
        })
    }

    pub(crate) fn put_json<T: serde::Serialize>(
        &self,
        media_type: &str,
        document: &T,
    ) -> Result<(Descriptor, Held)> {
        let bytes = serde_json::to_vec(document)
            .map_err(|error| Error::json("a document of the image", error))?;
        let (digest, held) = self.put_blob(&bytes)?;
        Ok((
            Descriptor::new(media_type, digest, bytes.len() as u64),
            held,
        ))
    }
}

fn packed(
    root: OwnedFd,
    tree: Tree,
    leave_out: BTreeSet<Vec<u8>>,
    mut sink: Sink<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<TakenIn> {
    pack::pack(
        root,
        tree,
        leave_out,
        &mut |bytes| sink.write(bytes),
        progress,
    )?;
    sink.finish()
}

/// The config, without clock or host name: its time is that of the newest file.
fn config(layer: Digest, newest: &str, options: &ImportOptions) -> Result<ImageConfig> {
    let platform = options.platform.clone().unwrap_or_else(Platform::host);
    let mut config = Config::default();
    for change in &options.changes {
        change.apply(&mut config)?;
    }
    Ok(ImageConfig {
        created: Some(newest.to_owned()),
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        config,
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![layer.into()],
        },
        history: vec![History {
            created: Some(newest.to_owned()),
            created_by: Some("mybox import".to_owned()),
            comment: options.message.clone(),
            ..History::default()
        }],
    })
}

/// An uncompressed tar in `ingest/`.
pub(crate) struct TakenIn {
    pub(crate) file: Temporary<File>,
    pub(crate) write_back: WriteBack,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// Takes the uncompressed tar: writes, hashes, counts, and stops at the limit.
struct Sink<'a> {
    file: Temporary<File>,
    write_back: WriteBack,
    name: &'a str,
    hasher: Hasher,
    size: u64,
    limit: Option<u64>,
}

impl<'a> Sink<'a> {
    fn new(file: Temporary<File>, name: &'a str, limit: Option<u64>) -> Self {
        Self {
            file,
            write_back: WriteBack::default(),
            name,
            hasher: Hasher::default(),
            size: 0,
            limit,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.size += bytes.len() as u64;
        if let Some(limit) = self.limit.filter(|limit| self.size > *limit) {
            return Err(Error::TooLarge {
                name: self.name.to_owned(),
                limit,
            });
        }
        self.hasher.update(bytes);
        let file = self.file.content_mut();
        let written = file.write_all(bytes);
        let written = written.and_then(|()| self.write_back.wrote(file, bytes.len()));
        written.on("write", || {
            format!("the uncompressed copy of {} to the store", self.name)
        })
    }

    fn finish(self) -> Result<TakenIn> {
        Ok(TakenIn {
            file: self.file,
            write_back: self.write_back,
            digest: self.hasher.finish(),
            size: self.size,
        })
    }
}

/// Decompresses everything into the sink.
fn decompress(
    reader: &mut dyn Read,
    name: &str,
    total: Option<u64>,
    sink: &mut Sink<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<()> {
    let mut input = Decompressor::new(reader, name)?;
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let filled = input.fill(&mut buffer)?;
        sink.write(&buffer[..filled])?;
        progress(Progress::Reading {
            bytes: input.consumed(),
            total,
        });
        if filled < buffer.len() {
            return Ok(());
        }
    }
}
