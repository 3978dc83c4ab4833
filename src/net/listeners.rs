//! Who on the host has a port: from the kernel's tables of sockets and the descriptors of processes.
//! Only asked when a port could not be had, to say why.

use std::collections::HashSet;
use std::fs;

use crate::container::port::Published;

/// `nginx (pid 812)`, if a process can be found.
pub fn of(port: &Published) -> Option<String> {
    let mut inodes = HashSet::new();
    for version in ["", "6"] {
        let table = fs::read_to_string(format!("/proc/self/net/{}{version}", port.protocol));
        inodes.extend(sockets(&table.unwrap_or_default(), port));
    }
    process_with(&inodes)
}

/// The inodes of the sockets of a table (proc(5), /proc/net/tcp) that a port's packets could be for.
fn sockets(table: &str, port: &Published) -> Vec<String> {
    let rows = table.lines().skip(1);
    rows.filter_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let (address, number) = columns.get(1)?.split_once(':')?;
        let is_port = u16::from_str_radix(number, 16) == Ok(port.host_port);
        let inode = *columns.get(9)?;
        (is_port && fits(address, port) && inode != "0").then(|| inode.to_owned())
    })
    .collect()
}

/// Words in the machine's own byte order: one for IPv4, the last of four for an IPv4 address in IPv6.
fn fits(address: &str, port: &Published) -> bool {
    let is_any = address.bytes().all(|digit| digit == b'0');
    let word = address
        .get(address.len().saturating_sub(8)..)
        .and_then(|word| u32::from_str_radix(word, 16).ok());
    is_any
        || port.host_ip.is_unspecified()
        || word == Some(u32::from_ne_bytes(port.host_ip.octets()))
}

/// The first process that has one of these sockets open.
fn process_with(inodes: &HashSet<String>) -> Option<String> {
    if inodes.is_empty() {
        return None;
    }
    let is_one = |target: &str| {
        let inode = target
            .strip_prefix("socket:[")
            .and_then(|it| it.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.contains(inode))
    };
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let mut targets = descriptors
            .flatten()
            .filter_map(|it| fs::read_link(it.path()).ok());
        if targets.any(|target| target.to_str().is_some_and(is_one)) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::port::Protocol;

    #[test]
    fn a_listener_is_found_by_its_port_and_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Published {
            host_ip: [0, 0, 0, 0].into(),
            host_port: listener.local_addr().unwrap().port(),
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let found = of(&port).expect("this process");
        assert!(
            found.contains(&format!("pid {}", std::process::id())),
            "{found}"
        );
        let elsewhere = Published {
            host_ip: [127, 0, 0, 9].into(),
            ..port
        };
        assert_eq!(of(&elsewhere), None);
    }
}
