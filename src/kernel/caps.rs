//! Capability sets (capabilities(7)), by name.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use super::{Context, Error, Result};

/// Reads `CAP_CHOWN`, `cap_chown` or `chown`.
pub fn parse(name: &str) -> Result<CapabilitySet> {
    let upper = name.to_ascii_uppercase();
    CapabilitySet::from_name(upper.strip_prefix("CAP_").unwrap_or(&upper))
        .ok_or_else(|| Error::new("read capability", name, "there is none of this name"))
}

/// Takes from the bounding set everything but `keep`, so that no program executed later can gain
/// it. Needs `CAP_SETPCAP`, so it comes before the user changes.
pub fn limit_bounding_set(keep: CapabilitySet) -> Result<()> {
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last capability that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(errno) => return Err(errno).on("drop from bounding set", format_args!("{one:?}")),
        }
    }
    Ok(())
}

/// What this process itself may do at most.
pub fn permitted() -> Result<CapabilitySet> {
    let sets = capabilities(None).on("read", "capabilities")?;
    Ok(sets.permitted)
}

/// Sets what the process itself may do. For a user other than root all of them are empty, and the
/// bounding set is what set-user-id programs may still gain.
pub fn set(effective: CapabilitySet, permitted: CapabilitySet) -> Result<()> {
    clear_ambient_capability_set().on("clear", "ambient capabilities")?;
    let sets = CapabilitySets {
        effective,
        permitted,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets).on("set", "capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_with_and_without_prefix() {
        assert_eq!(parse("CAP_CHOWN"), Ok(CapabilitySet::CHOWN));
        assert_eq!(parse("net_admin"), Ok(CapabilitySet::NET_ADMIN));
        let error = parse("CAP_FLY").unwrap_err();
        assert!(error.to_string().contains("FLY"), "{error}");
    }
}
