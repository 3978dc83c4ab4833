//! What there is of an image. An image's own config leaves out what it has nothing to say of; Docker has
//! a field for all of it.

use mybox_store::Image;
use serde_json::{Value, json};

use super::NEVER;
use crate::cli::inspect::format;

/// The fields of an image; `size` in bytes.
pub(in crate::cli::inspect) fn image(
    image: &Image,
    config: &Value,
    tags: &[String],
    digests: &Value,
    size: u64,
) -> Value {
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": comment(image, text("comment")),
        "Created": image.created,
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Architecture": config["architecture"],
        "Variant": text("variant"),
        "Os": config["os"],
        "Size": size,
        "VirtualSize": size,
        "GraphDriver": {"Name": "overlay2", "Data": null},
        "Config": format::with(nothing_said(), config["config"].clone()),
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
        // Nobody remembers when that was.
        "Metadata": {"LastTagTime": NEVER},
    })
}

/// That of the last step stands for one of the whole.
fn comment<'a>(image: &'a Image, whole: &'a str) -> &'a str {
    let step = image.config.history.last();
    let step = step.and_then(|step| step.comment.as_deref());
    Some(whole)
        .filter(|text| !text.is_empty())
        .or(step)
        .unwrap_or_default()
}

/// `Config` of an image that says nothing of how it is run.
fn nothing_said() -> Value {
    json!({
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "ExposedPorts": null,
        "Tty": false,
        "OpenStdin": false,
        "StdinOnce": false,
        "Env": null,
        "Cmd": null,
        "Healthcheck": null,
        "Image": "",
        "Volumes": null,
        "WorkingDir": "",
        "Entrypoint": null,
        "OnBuild": null,
        "Labels": null,
        "StopSignal": "",
        "StopTimeout": null,
        "Shell": null,
    })
}
