//! From a name to the manifests, configs and layers that are wanted.

use anyhow::{Context, Result, bail};
use mybox_store::{
    Descriptor, Digest, Document, ImageConfig, Manifest, Platform, Reference, Store,
};

use super::{Event, Platforms, PullRequest, Watch};
use crate::registry::{Client, Fetched, Source, Which};

/// Indexes in indexes, at most. Real ones have one level.
const DEEPEST: usize = 4;
/// The largest config that is read into memory.
const LARGEST_CONFIG: u64 = 4 << 20;

/// What a name has led to.
pub(super) struct Resolved {
    /// Where it is fetched from.
    pub(super) source: Source,
    /// Its full name.
    pub(super) reference: Reference,
    /// The digest of what the name led to.
    pub(super) digest: Digest,
    /// What `index.json` will name.
    pub(super) root: Descriptor,
    /// The index it was chosen from.
    pub(super) chosen_from: Option<Digest>,
    /// Configs, manifests, indexes: each after what it names.
    pub(super) documents: Vec<Vec<u8>>,
    pub(super) images: Vec<WantedImage>,
    /// Manifests beside the images, of attestations: their blobs are kept, never unpacked.
    pub(super) attachments: Vec<Manifest>,
    /// Bytes that came over the network so far.
    pub(super) fetched: u64,
}

/// One image for one platform.
pub(super) struct WantedImage {
    pub(super) manifest: Manifest,
    pub(super) config: ImageConfig,
}

/// Tries the sources of the name in turn.
pub(super) fn resolve(
    store: &Store,
    client: &Client,
    request: &PullRequest,
    watch: Watch<'_>,
) -> Result<Resolved> {
    let mut sources = client.candidates(&request.name)?.into_iter().peekable();
    while let Some(source) = sources.next() {
        let reference = source.reference().clone();
        match client.manifest(&source, &source.wanted()) {
            Ok(first) => {
                let asking = Asking {
                    store,
                    client,
                    source: &source,
                    fetched: 0,
                    documents: Vec::new(),
                    images: Vec::new(),
                    attachments: Vec::new(),
                };
                let resolved = asking.follow(&reference, first, &request.platforms);
                return resolved.with_context(|| format!("pull {}", reference.familiar()));
            }
            Err(error) if sources.peek().is_some() => watch(Event::SourceFailed {
                reason: error.to_string(),
            }),
            Err(error) => {
                return Err(error).with_context(|| format!("pull {}", reference.familiar()));
            }
        }
    }
    bail!("no registry is configured for {}", request.name)
}

/// One resolution under way.
struct Asking<'a> {
    store: &'a Store,
    client: &'a Client,
    source: &'a Source,
    fetched: u64,
    documents: Vec<Vec<u8>>,
    images: Vec<WantedImage>,
    attachments: Vec<Manifest>,
}

impl Asking<'_> {
    fn follow(
        mut self,
        reference: &Reference,
        first: Fetched,
        platforms: &Platforms,
    ) -> Result<Resolved> {
        let digest = first.digest;
        let (root, chosen_from) = match platforms {
            Platforms::Own => self.one(first, &Platform::host())?,
            Platforms::One(platform) => {
                let one = self.one(first, platform)?;
                self.must_suit(platform)?;
                one
            }
            Platforms::All => (self.all(first, 0)?, None),
        };
        Ok(Resolved {
            source: self.source.clone(),
            reference: reference.clone(),
            digest,
            root,
            chosen_from,
            documents: self.documents,
            images: self.images,
            attachments: self.attachments,
            fetched: self.fetched,
        })
    }

    /// Goes down through indexes to the one image that suits.
    fn one(&mut self, first: Fetched, platform: &Platform) -> Result<(Descriptor, Option<Digest>)> {
        let first_digest = first.digest;
        let mut current = first;
        for _ in 0..DEEPEST {
            self.fetched += current.bytes.len() as u64;
            match Document::parse(&current.bytes, &current.media_type)? {
                Document::Image(manifest) => {
                    let root = self.image(&current, manifest)?;
                    let chosen_from = (current.digest != first_digest).then_some(first_digest);
                    return Ok((root, chosen_from));
                }
                Document::Index(index) => {
                    let chosen = choose(&index.manifests, platform)?;
                    current = self.manifest(chosen.digest)?;
                }
            }
        }
        bail!("manifest {first_digest}: more than {DEEPEST} indexes within one another")
    }

    /// Fails if the image is for another platform than was asked for. One that does not say what it is for
    /// may be for any.
    fn must_suit(&self, asked: &Platform) -> Result<()> {
        for image in &self.images {
            let platform = image.config.platform();
            let says = !platform.architecture.is_empty();
            if says && asked.choose([&platform].into_iter()).is_none() {
                bail!("there is no image for {asked}: it is for {platform} alone");
            }
        }
        Ok(())
    }

    /// Takes everything that a manifest or index leads to.
    fn all(&mut self, fetched: Fetched, depth: usize) -> Result<Descriptor> {
        if depth > DEEPEST {
            bail!(
                "manifest {}: more than {DEEPEST} indexes within one another",
                fetched.digest
            );
        }
        self.fetched += fetched.bytes.len() as u64;
        match Document::parse(&fetched.bytes, &fetched.media_type)? {
            Document::Image(manifest) => self.image(&fetched, manifest),
            Document::Index(index) => {
                for child in &index.manifests {
                    let child_fetched = self.manifest(child.digest)?;
                    if is_attachment(child) {
                        self.attachment(&child_fetched)?;
                    } else {
                        self.all(child_fetched, depth + 1)?;
                    }
                }
                Ok(self.keep(&fetched, mybox_store::INDEX_MEDIA_TYPE, None))
            }
        }
    }

    /// A document of the store. One that is damaged is fetched, and replaced.
    fn stored(&self, digest: Digest) -> Result<Option<Vec<u8>>> {
        match self.store.document(digest) {
            Err(mybox_store::Error::Damaged { .. }) => Ok(None),
            document => Ok(document?),
        }
    }

    fn manifest(&self, digest: Digest) -> Result<Fetched> {
        if let Some(bytes) = self.stored(digest)? {
            return Ok(Fetched {
                bytes,
                media_type: String::new(),
                digest,
            });
        }
        Ok(self.client.manifest(self.source, &Which::Digest(digest))?)
    }

    fn image(&mut self, fetched: &Fetched, manifest: Manifest) -> Result<Descriptor> {
        let bytes = self.config(&manifest.config)?;
        let config = ImageConfig::parse(&bytes, &manifest)?;
        let platform = config.platform();
        self.documents.push(bytes);
        self.images.push(WantedImage { manifest, config });
        Ok(self.keep(fetched, mybox_store::MANIFEST_MEDIA_TYPE, Some(&platform)))
    }

    fn attachment(&mut self, fetched: &Fetched) -> Result<()> {
        self.fetched += fetched.bytes.len() as u64;
        let manifest: Manifest = serde_json::from_slice(&fetched.bytes)
            .with_context(|| format!("read manifest {}", fetched.digest))?;
        self.documents.push(fetched.bytes.clone());
        self.attachments.push(manifest);
        Ok(())
    }

    /// Notes a manifest or index to be stored; its descriptor has the media type that it says of
    /// itself, else that of its server, else `usual`.
    fn keep(&mut self, fetched: &Fetched, usual: &str, platform: Option<&Platform>) -> Descriptor {
        let served = Some(&fetched.media_type).filter(|served| !served.is_empty());
        let own = Document::media_type_of(&fetched.bytes);
        let media_type = own.or(served.cloned()).unwrap_or_else(|| usual.to_owned());
        let descriptor = Descriptor::of_document(&media_type, &fetched.bytes, platform);
        self.documents.push(fetched.bytes.clone());
        descriptor
    }

    fn config(&mut self, config: &Descriptor) -> Result<Vec<u8>> {
        if let Some(bytes) = self.stored(config.digest)? {
            return Ok(bytes);
        }
        if config.size > LARGEST_CONFIG {
            bail!(
                "config {}: {} bytes, more than the {LARGEST_CONFIG} that are read into memory",
                config.digest,
                config.size
            );
        }
        let mut bytes = Vec::new();
        super::download::small(self.client, self.source, config, &mut bytes)?;
        self.fetched += bytes.len() as u64;
        Ok(bytes)
    }
}

/// The descriptor for this platform. One that says nothing of platforms fits where nothing else
/// does: indexes of one image often leave it out.
fn choose<'a>(offers: &'a [Descriptor], platform: &Platform) -> Result<&'a Descriptor> {
    let with_platform: Vec<(Platform, &Descriptor)> = offers
        .iter()
        .filter_map(|offer| Some((offer.platform()?, offer)))
        .collect();
    if let Some(chosen) = platform.choose(with_platform.iter().map(|(platform, _)| platform)) {
        return Ok(with_platform[chosen].1);
    }
    if let Some(unsaid) = offers.iter().find(|offer| offer.platform().is_none()) {
        return Ok(unsaid);
    }
    let there: Vec<String> = with_platform
        .iter()
        .filter(|(platform, _)| platform.os != "unknown")
        .map(|(platform, _)| platform.to_string())
        .collect();
    if there.is_empty() {
        bail!("there is no image for {platform}, nor for any other platform");
    }
    bail!(
        "there is no image for {platform}, only for {}",
        there.join(", ")
    )
}

/// buildkit attaches provenance to images this way.
fn is_attachment(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .is_some_and(|platform| platform.os == "unknown")
}
