//! An OCI image layout made for a benchmark.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::peers::run;

const MEDIA_TYPE: &str = "application/vnd.oci.image";

/// A layout with one image, of the layers it was given.
pub struct Layout {
    path: PathBuf,
    descriptors: Vec<String>,
    diff_ids: Vec<String>,
}

impl Layout {
    pub fn new(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).expect("make a directory");
        Self {
            path: path.to_owned(),
            descriptors: Vec::new(),
            diff_ids: Vec::new(),
        }
    }

    /// Compresses a tar and takes it in as the next layer; the digest of the blob.
    pub fn add_layer(&mut self, tar: &Path) -> String {
        self.diff_ids.push(format!("\"{}\"", sha256(tar)));
        run(Command::new("gzip").args(["-6", "--force"]).arg(tar));
        let mut gzipped = tar.as_os_str().to_owned();
        gzipped.push(".gz");
        let (digest, size) = self.adopt(Path::new(&gzipped));
        self.descriptors
            .push(descriptor("layer.v1.tar+gzip", &digest, size));
        digest
    }

    /// Writes config, manifest and index; the image is called `name`.
    pub fn finish(self, name: &str) {
        let architecture = if cfg!(target_arch = "x86_64") {
            "amd64"
        } else {
            "arm64"
        };
        let config = format!(
            "{{\"architecture\":\"{architecture}\",\"os\":\"linux\",\"config\":{{\"Cmd\":[\"sh\"]}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[{}]}}}}",
            self.diff_ids.join(",")
        );
        let (digest, size) = self.adopt_text(&config);
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{MEDIA_TYPE}.manifest.v1+json\",\
             \"config\":{},\"layers\":[{}]}}",
            descriptor("config.v1+json", &digest, size),
            self.descriptors.join(",")
        );
        let (digest, size) = self.adopt_text(&manifest);
        let index = format!(
            "{{\"schemaVersion\":2,\"manifests\":[{{\"mediaType\":\
             \"{MEDIA_TYPE}.manifest.v1+json\",\"digest\":\"{digest}\",\"size\":{size},\
             \"annotations\":{{\"org.opencontainers.image.ref.name\":\"{name}\"}}}}]}}"
        );
        fs::write(self.path.join("index.json"), index).expect("write the index");
        let version = "{\"imageLayoutVersion\":\"1.0.0\"}";
        fs::write(self.path.join("oci-layout"), version).expect("write oci-layout");
    }

    fn adopt_text(&self, text: &str) -> (String, u64) {
        let path = self.path.join("document");
        fs::write(&path, text).expect("write a document");
        self.adopt(&path)
    }

    /// Moves a file among the blobs.
    fn adopt(&self, file: &Path) -> (String, u64) {
        let digest = sha256(file);
        let size = fs::metadata(file).expect("stat a blob").len();
        let hex = digest.trim_start_matches("sha256:");
        let blob = self.path.join("blobs/sha256").join(hex);
        fs::rename(file, blob).expect("move a blob");
        (digest, size)
    }
}

fn descriptor(kind: &str, digest: &str, size: u64) -> String {
    format!("{{\"mediaType\":\"{MEDIA_TYPE}.{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
}

fn sha256(file: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(file)
        .output()
        .expect("start sha256sum");
    let text = String::from_utf8(output.stdout).expect("hex digits");
    format!("sha256:{}", &text[..64])
}
