//! `save`: images into a stream. Everything that is read is held until the end, and checked against
//! its digest on the way: what is damaged here shall not look whole elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use super::{
    ArchiveFormat, BLOBS, DOCKER_MANIFEST, DockerImage, FULL_NAME, INDEX, LAYOUT, LAYOUT_CONTENT,
};
use crate::archive::{Entry, Kind, writer};
use crate::blob::Held;
use crate::compression::Decompressor;
use crate::digest::{DiffId, Digest, Hasher};
use crate::error::{Context, Error, Result};
use crate::image::Image;
use crate::layer::indexed::{self, TAR};
use crate::layout::Store;
use crate::oci::index::{Index, REF_NAME};
use crate::oci::manifest::{self, Descriptor};
use crate::reference::Reference;
use crate::time::Time;

const BUFFER: usize = 256 << 10;
static ZEROS: [u8; 512] = [0; 512];

impl Store {
    /// Writes images to a stream, each under the name it was asked for by, if that is a name. Of an
    /// index an OCI archive gets all platforms that are here, a Docker archive this machine's.
    pub fn save(
        &self,
        names: &[String],
        format: ArchiveFormat,
        output: &mut dyn Write,
    ) -> Result<()> {
        let mut archive = Archive { output };
        match format {
            ArchiveFormat::Oci => save_oci(self, names, &mut archive)?,
            ArchiveFormat::Docker => save_docker(self, names, &mut archive)?,
        }
        archive.write(&writer::END)?;
        archive.output.flush().on("write", archive_name)
    }

    fn held(&self, digest: Digest) -> Result<Held> {
        let missing = || Error::damaged(self.blob_path(digest), "it is missing");
        self.hold_blob(digest)?.ok_or_else(missing)
    }
}

fn archive_name() -> String {
    "the archive".to_owned()
}

/// What goes into an OCI archive, held.
struct Collected {
    blobs: BTreeMap<Digest, Held>,
    manifests: Vec<Descriptor>,
    for_docker: Vec<Tagged>,
}

fn collect(store: &Store, index: &Index, names: &[String]) -> Result<Collected> {
    let mut blobs: BTreeMap<Digest, Held> = BTreeMap::new();
    let mut manifests = Vec::new();
    let mut for_docker = Vec::new();
    for name in names {
        let mut meant = store.meant(index, name)?;
        let root = &mut meant.root;
        if let Some(damage) = root.damage.pop() {
            return Err(damage);
        }
        let (descriptor, needed, others) = match meant.manifest {
            None => (
                root.entry.clone(),
                root.manifests.iter().collect(),
                &*root.blobs,
            ),
            Some(manifest) => {
                let found = root.manifests.iter();
                let found: Vec<_> = found
                    .filter(|found| found.descriptor.digest == manifest)
                    .collect();
                (found[0].descriptor.clone(), found, &[][..])
            }
        };
        for found in needed {
            let layers = found.manifest.layers.iter().map(|layer| layer.digest);
            let documents = [found.descriptor.digest, found.manifest.config.digest];
            for digest in documents.into_iter().chain(layers) {
                blobs.insert(digest, store.held(digest)?);
            }
        }
        // Other platforms of an index need not be here.
        for digest in others {
            blobs.extend(store.hold_blob(*digest)?.map(|held| (*digest, held)));
        }
        let reference = name_asked_for(name, &root.names);
        manifests.push(described(&descriptor, reference.as_ref()));
        match store.find(name) {
            Ok(image) => add(&mut for_docker, image, reference),
            // An index without this machine's platform: nothing that docker could run here.
            Err(Error::NoSuchPlatform { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Collected {
        blobs,
        manifests,
        for_docker,
    })
}

fn save_oci(store: &Store, names: &[String], archive: &mut Archive<'_>) -> Result<()> {
    let collected = store.read_along(|index| collect(store, index, names))?;
    let Collected {
        blobs,
        manifests,
        for_docker,
    } = collected;
    archive.file(LAYOUT, LAYOUT_CONTENT)?;
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": manifest::INDEX,
        "manifests": manifests,
    });
    archive.json(INDEX, &index)?;
    let for_docker = for_docker.iter().map(|(image, tags)| DockerImage {
        config: blob_name(image.id),
        repo_tags: Some(tags.clone()),
        layers: image
            .blobs
            .iter()
            .map(|blob| blob_name(blob.digest))
            .collect(),
    });
    archive.json(DOCKER_MANIFEST, &for_docker.collect::<Vec<_>>())?;
    archive.directory("blobs/")?;
    archive.directory(BLOBS)?;
    for (digest, held) in &blobs {
        let size = held.size().on("stat", || store.blob_path(*digest))?;
        let mut file = held.reader().on("open", || store.blob_path(*digest))?;
        archive.begin(&blob_name(*digest), size)?;
        let found = archive.copy(size, |buffer| {
            read(&mut file, buffer).on("read", || store.blob_path(*digest))
        })?;
        if found != *digest {
            let reason = format!("its bytes have {found}");
            return Err(Error::damaged(store.blob_path(*digest), reason));
        }
    }
    Ok(())
}

/// The name an image is saved under; none if it was asked for by a digest.
fn name_asked_for(name: &str, names: &[String]) -> Option<Reference> {
    let reference: Reference = name.parse().ok()?;
    let known = |reference: &Reference| names.contains(&reference.to_string());
    known(&reference).then_some(reference)
}

/// An entry of the archive's index. What this store thinks of the image stays here.
fn described(descriptor: &Descriptor, name: Option<&Reference>) -> Descriptor {
    let mut described = descriptor.clone();
    described.annotations.clear();
    if let Some(name) = name {
        for key in [REF_NAME, FULL_NAME] {
            described
                .annotations
                .insert(key.to_owned(), name.to_string());
        }
    }
    described
}

/// An image of Docker's, with the names it is saved under.
type Tagged = (Image, Vec<String>);

/// Adds an image or another name of it. Names are whole: podman would take short ones for its own.
fn add(images: &mut Vec<Tagged>, image: Image, name: Option<Reference>) {
    let tag = name.map(|name| name.to_string());
    match images.iter_mut().find(|(known, _)| known.id == image.id) {
        Some((_, tags)) => tags.extend(tag),
        None => images.push((image, tag.into_iter().collect())),
    }
}

/// Where a layer's tar is taken from, held.
enum TarFrom {
    /// An indexed layer, whose directory carries the lock.
    Layer(OwnedFd),
    Blob(Digest, Held),
}

/// Images with all their layers, or the blobs that those come in.
fn hold_images(
    store: &Store,
    names: &[String],
) -> Result<(Vec<Tagged>, BTreeMap<DiffId, TarFrom>)> {
    let mut images = Vec::new();
    let mut held = BTreeMap::new();
    for name in names {
        let image = store.find(name)?;
        for (layer, blob) in image.layers.iter().zip(&image.blobs) {
            let indexed = store.hold_indexed(*layer)?.map(TarFrom::Layer);
            let from = match indexed {
                Some(layer) => layer,
                None => TarFrom::Blob(blob.digest, store.held(blob.digest)?),
            };
            held.insert(*layer, from);
        }
        let known: Vec<String> = image.references.iter().map(ToString::to_string).collect();
        add(&mut images, image, name_asked_for(name, &known));
    }
    Ok((images, held))
}

fn save_docker(store: &Store, names: &[String], archive: &mut Archive<'_>) -> Result<()> {
    let (images, held) = store.read_along(|_| hold_images(store, names))?;
    let mut written = BTreeSet::new();
    let mut entries = Vec::new();
    for (image, tags) in &images {
        let config = format!("{}.json", image.id.hex());
        archive.file(&config, image.config_bytes())?;
        for layer in &image.layers {
            if !written.insert(*layer) {
                continue;
            }
            match &held[layer] {
                TarFrom::Layer(directory) => {
                    let object = format!("{}/{TAR}", store.layer_path(*layer));
                    as_it_is(*layer, &object, directory, archive)?;
                }
                TarFrom::Blob(blob, held) => {
                    uncompressed(*layer, &store.blob_path(*blob), held, archive)?;
                }
            }
        }
        entries.push(DockerImage {
            config,
            repo_tags: Some(tags.clone()),
            layers: image
                .layers
                .iter()
                .map(|layer| layer_name(*layer))
                .collect(),
        });
    }
    archive.json(DOCKER_MANIFEST, &entries)
}

fn blob_name(digest: Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn layer_name(layer: DiffId) -> String {
    format!("{}.tar", layer.hex())
}

/// Writes the tar of an indexed layer.
fn as_it_is(
    layer: DiffId,
    object: &str,
    directory: &OwnedFd,
    archive: &mut Archive<'_>,
) -> Result<()> {
    let named = || object.to_owned();
    let mut tar = indexed::open(directory, TAR).on("open", named)?;
    let size = tar.metadata().on("stat", named)?.len();
    archive.begin(&layer_name(layer), size)?;
    let found = archive.copy(size, |buffer| read(&mut tar, buffer).on("read", named))?;
    check(layer, object, found)
}

/// Writes a layer's tar from its blob. How long it is stands before it in the archive, and nowhere
/// else: a first pass counts, where the blob is compressed.
fn uncompressed(layer: DiffId, object: &str, held: &Held, archive: &mut Archive<'_>) -> Result<()> {
    let open = || held.reader().on("open", || object.to_owned());
    let mut file = open()?;
    let mut input = Decompressor::new(&mut file, object)?;
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        let filled = input.fill(&mut buffer)?;
        size += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    drop(input);
    let mut file = open()?;
    let mut input = Decompressor::new(&mut file, object)?;
    archive.begin(&layer_name(layer), size)?;
    let found = archive.copy(size, |buffer| input.fill(buffer))?;
    check(layer, object, found)
}

fn check(layer: DiffId, object: &str, found: Digest) -> Result<()> {
    if DiffId::from(found) == layer {
        return Ok(());
    }
    let reason = format!("the layer in it is {found}, not {layer}");
    Err(Error::damaged(object, reason))
}

fn read(file: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A tar being written: the same images always give the same bytes.
struct Archive<'a> {
    output: &'a mut dyn Write,
}

impl Archive<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.write_all(bytes).on("write", archive_name)
    }

    fn begin(&mut self, name: &str, size: u64) -> Result<()> {
        self.header(name, Kind::File, 0o644, size)
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.header(name, Kind::Directory, 0o755, 0)
    }

    fn header(&mut self, name: &str, kind: Kind, mode: u32, size: u64) -> Result<()> {
        let entry = Entry {
            name: name.as_bytes().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
            stored: size,
        };
        self.write(&writer::headers(&entry))
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.begin(name, content.len() as u64)?;
        self.write(content)?;
        self.write(&ZEROS[..writer::padding(content.len() as u64)])
    }

    fn json(&mut self, name: &str, document: &impl serde::Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(document).map_err(|error| Error::json(name, error))?;
        self.file(name, &bytes)
    }

    /// Writes the data of a file; the digest of it.
    fn copy(
        &mut self,
        size: u64,
        mut read: impl FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<Digest> {
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let filled = read(&mut buffer[..wanted])?;
            if filled == 0 {
                return Err(Error::damaged("a blob", "it is shorter than it was"));
            }
            hasher.update(&buffer[..filled]);
            self.write(&buffer[..filled])?;
            left -= filled as u64;
        }
        self.write(&ZEROS[..writer::padding(size)])?;
        Ok(hasher.finish())
    }
}
