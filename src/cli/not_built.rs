//! Flags of Docker's that are not built yet: their refusal says so, where clap would
//! guess at another flag.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The flags of `docker run` on Linux that mybox does not take, of other commands some, and what there
/// is instead.
const FLAGS: [(&str, &str); 13] = [
    ("--cpu-rt-period", ""),
    ("--cpu-rt-runtime", ""),
    (
        "--disable-content-trust",
        "images are checked by digest, and signatures are not looked at",
    ),
    (
        "--gpus",
        "`--device` gives a container a device of the host",
    ),
    ("--ip6", "the bridge has IPv4 only"),
    ("--kernel-memory", ""),
    (
        "--link",
        "`--add-host NAME:ADDRESS` gives an address a name",
    ),
    ("--link-local-ip", ""),
    ("--network-alias", ""),
    ("--net-alias", ""),
    ("--runtime", "mybox launches containers itself"),
    ("--storage-opt", ""),
    ("--volume-driver", "volumes are directories of this host"),
];

/// What is said of `error`, if it is that such a flag is unknown.
pub(super) fn explain(error: &clap::Error) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let (flag, instead) = FLAGS.iter().find(|(flag, _)| flag == given)?;
    let hint = match *instead {
        "" => String::new(),
        instead => format!("\nhint: {instead}"),
    };
    Some(format!(
        "error: {flag} is Docker's, and not built yet{hint}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn refusal(words: &[&str]) -> clap::Error {
        let words = ["mybox"].iter().chain(words);
        super::super::Cli::try_parse_from(words).expect_err("an unknown flag is refused")
    }

    #[test]
    fn what_is_listed_is_not_taken_and_is_said_to_be_not_built() {
        for (flag, instead) in FLAGS {
            for verb in ["run", "create"] {
                let told = explain(&refusal(&[verb, flag, "x", "image"]))
                    .unwrap_or_else(|| panic!("{flag} of {verb} is explained"));
                assert!(
                    told.starts_with(&format!("error: {flag} is Docker's")),
                    "{told}"
                );
                assert!(told.ends_with(instead), "{told}");
            }
        }
    }

    #[test]
    fn what_docker_does_not_know_either_is_left_to_clap() {
        assert_eq!(explain(&refusal(&["run", "--memroy", "1g", "image"])), None);
        assert_eq!(explain(&refusal(&["run"])), None);
    }
}
