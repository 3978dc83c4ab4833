//! Which extended attributes a layer has.

/// All but overlayfs's own, which would forge whiteouts and redirects, and labels that belong to
/// the policy of the host that wrote them.
pub(crate) fn belongs_in_layer(name: &[u8]) -> bool {
    let overlays = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    let hosts = matches!(
        name,
        b"security.selinux" | b"security.ima" | b"security.evm"
    );
    !overlays && !hosts
}
