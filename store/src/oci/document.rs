//! What a registry, an archive or another tool serves as a manifest: told apart, and refused in
//! words where it is no image this store can hold.

use serde::Deserialize;

use super::manifest::{ImageIndex, Manifest};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// A manifest or an index, as its bytes say.
#[derive(Clone, Debug)]
pub enum Document {
    /// One image for one platform.
    Image(Manifest),
    /// A choice of manifests, mostly by platform; some of them may be indexes in turn.
    Index(ImageIndex),
}

/// As much as tells what a document is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// What a document calls itself, if it does.
    pub fn media_type_of(bytes: &[u8]) -> Option<String> {
        let shape: Shape = serde_json::from_slice(bytes).ok()?;
        shape.media_type
    }

    /// Of what type something is that has the manifest of an image and is none: a chart, a signature.
    pub(crate) fn artifact_type(bytes: &[u8]) -> Option<String> {
        let shape: Shape = serde_json::from_slice(bytes).ok()?;
        let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
        let is_image = manifest.is_image();
        (!is_image).then(|| shape.artifact_type.unwrap_or(manifest.config.media_type))
    }

    /// Reads a manifest or index. `media_type` is what its server called it, empty if it
    /// did not; what the document calls itself counts more.
    pub fn parse(bytes: &[u8], media_type: &str) -> Result<Self> {
        let digest = Digest::of(bytes);
        let refuse = |reason: String| Error::Unsupported {
            object: format!("manifest {digest}"),
            reason,
        };
        let shape: Shape = serde_json::from_slice(bytes)
            .map_err(|error| Error::json(format!("manifest {digest}"), error))?;
        // One document that is both would be another image for another tool (CVE-2021-41190).
        if shape.manifests.is_some() && shape.layers.is_some() {
            return Err(refuse("it claims to be a manifest and an index".to_owned()));
        }
        if shape.schema_version == Some(1) || shape.fs_layers.is_some() {
            let reason = "it is of Docker's schema 1, which has no content digests worth the name; \
                          push the image again with a tool of this decade";
            return Err(refuse(reason.to_owned()));
        }
        let read = |error| Error::json(format!("manifest {digest}"), error);
        if shape.manifests.is_some() {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(read);
        }
        if shape.layers.is_some() {
            let image: Manifest = serde_json::from_slice(bytes).map_err(read)?;
            check_image(&image, shape.artifact_type.as_deref()).map_err(refuse)?;
            return Ok(Self::Image(image));
        }
        let called = match shape.media_type.as_deref().unwrap_or(media_type) {
            "" => "something without a media type",
            called => called,
        };
        Err(refuse(format!(
            "it is neither an image nor an index but {called}"
        )))
    }
}

/// Whether a manifest is that of an image whose layers this store can lay down.
fn check_image(image: &Manifest, artifact_type: Option<&str>) -> Result<(), String> {
    if !image.is_image() {
        let kind = artifact_type.unwrap_or(&image.config.media_type);
        return Err(format!("it is no image but an artifact of type {kind}"));
    }
    match image.layers.iter().find(|layer| !layer.is_layer()) {
        None => Ok(()),
        Some(layer) => Err(format!(
            "its layer {} is of type {}, not a tar that is plain or compressed with gzip or zstd",
            layer.digest, layer.media_type
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn image(config: &str, layer: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config}","digest":"{DIGEST}","size":2}},
                "layers":[{{"mediaType":"{layer}","digest":"{DIGEST}","size":3}}]}}"#
        )
    }

    #[test]
    fn images_of_docker_and_oci_are_read_with_layers_of_every_compression() {
        for config in [
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        ] {
            for layer in [
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.oci.image.layer.v1.tar+gzip",
                "application/vnd.oci.image.layer.v1.tar+zstd",
                "application/vnd.docker.image.rootfs.diff.tar",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.oci.image.layer.nondistributable.v1.tar",
            ] {
                let read = Document::parse(image(config, layer).as_bytes(), "");
                assert!(matches!(read, Ok(Document::Image(_))), "{config} {layer}");
            }
        }
    }

    #[test]
    fn an_index_is_told_by_its_shape_whatever_it_is_called() {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"x","digest":"{DIGEST}","size":1,
                "platform":{{"os":"linux","architecture":"arm","variant":"v7","os.version":"1"}}}}]}}"#
        );
        let Ok(Document::Index(index)) = Document::parse(index.as_bytes(), "text/plain") else {
            panic!("not an index");
        };
        let platform = index.manifests[0].platform().unwrap();
        assert_eq!(platform.to_string(), "linux/arm/v7");
    }

    #[test]
    fn what_is_no_image_is_refused_by_name() {
        let config = "application/vnd.oci.image.config.v1+json";
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[]}"#;
        let cases = [
            (both.to_owned(), "a manifest and an index"),
            (
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                "schema 1",
            ),
            (
                image("application/vnd.cncf.helm.config.v1+json", "x"),
                "helm",
            ),
            (image(config, "application/x-evil"), "application/x-evil"),
            ("{}".to_owned(), "text/plain"),
            ("[]".to_owned(), "JSON"),
            (image(config, "x").replace("sha256:", "sha512:"), "JSON"),
        ];
        for (text, expected) in cases {
            let error = Document::parse(text.as_bytes(), "text/plain").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
