//! Which settings of the kernel are a container's own (namespaces(7), runtime-spec config-linux.md,
//! "Sysctl").

/// Those of an IPC namespace.
const OF_IPC: [&str; 4] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
];
const BELOW_IPC: [&str; 2] = ["kernel.shm", "fs.mqueue."];

/// Those of a network namespace.
const BELOW_NETWORK: &str = "net.";

/// `NAME=VALUE`; a setting of the whole host is an error.
pub fn parse(text: &str) -> Result<(String, String), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not NAME=VALUE"));
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !name.chars().all(plain) || name.split('.').any(str::is_empty) {
        return Err(format!("`{name}` is no setting such as net.core.somaxconn"));
    }
    let below_ipc = BELOW_IPC.iter().any(|prefix| name.starts_with(prefix));
    if OF_IPC.contains(&name) || below_ipc || is_of_network(name) {
        Ok((name.to_owned(), value.to_owned()))
    } else {
        Err(format!(
            "`{name}` is a setting of the whole host; a container has its own kernel.msg*, \
             kernel.sem, kernel.shm*, fs.mqueue.* and net.*"
        ))
    }
}

/// Whether it belongs to a network namespace.
pub(super) fn is_of_network(name: &str) -> bool {
    name.starts_with(BELOW_NETWORK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_with_a_namespace_are_taken() {
        for good in [
            "net.ipv4.ip_forward=1",
            "kernel.shmmax=65536",
            "kernel.sem=1 2 3 4",
            "fs.mqueue.msg_max=20",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "net.ipv4.ip_forward",
            "kernel.panic=1",
            "vm.swappiness=1",
            "net/../vm.x=1",
            "net..x=1",
            "=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("kernel.panic=1").unwrap_err().contains("whole host"));
    }
}
