//! Which container has which address: a symbolic link per address to the id of its container.
//! Making a link either succeeds or finds one there, so an address never has two containers, and
//! no lock is needed however many start at once.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Subnet;
use crate::kernel::file::{existing, remove_link_to};

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An asked-for address cannot be given to a container.
    #[error("{address} is not an address for containers of {subnet}")]
    OutOfRange {
        /// The address.
        address: Ipv4Addr,
        /// The bridge's range.
        subnet: Subnet,
    },
    /// An asked-for address belongs to somebody.
    #[error("{address} is the address of container {owner}")]
    Taken {
        /// The address.
        address: Ipv4Addr,
        /// Its container.
        owner: String,
    },
    /// None is left.
    #[error("all addresses of {0} are taken")]
    Exhausted(Subnet),
    /// The link could not be made or read.
    #[error("lease an address in {}", path.display())]
    Io {
        /// The directory of leases.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Gives `owner` the address it asked for, or the lowest free one.
pub fn lease(
    dir: &Path,
    subnet: Subnet,
    owner: &str,
    wanted: Option<Ipv4Addr>,
) -> Result<Ipv4Addr, Error> {
    let failed = |source| Error::Io {
        path: dir.to_owned(),
        source,
    };
    fs::create_dir_all(dir).map_err(failed)?;
    if let Some(address) = wanted {
        check(subnet, address)?;
        return match claim(dir, address, owner).map_err(failed)? {
            true => Ok(address),
            false => Err(Error::Taken {
                address,
                owner: owner_of(dir, address),
            }),
        };
    }
    for address in candidates(dir, subnet)? {
        if claim(dir, address, owner).map_err(failed)? {
            return Ok(address);
        }
    }
    Err(Error::Exhausted(subnet))
}

/// The address that [`lease`] would give now, without taking it.
pub fn peek(dir: &Path, subnet: Subnet, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr, Error> {
    match wanted {
        Some(address) => check(subnet, address).map(|()| address),
        None => candidates(dir, subnet)?
            .next()
            .ok_or(Error::Exhausted(subnet)),
    }
}

/// Frees an address, if it is `owner` who has it.
pub fn release(dir: &Path, address: Ipv4Addr, owner: &str) -> io::Result<()> {
    remove_link_to(&dir.join(address.to_string()), owner)
}

/// Frees whatever `owner` has, where no record can be relied on to say which address it is.
pub fn release_all(dir: &Path, owner: &str) -> io::Result<()> {
    for address in of(dir, owner)? {
        release(dir, address, owner)?;
    }
    Ok(())
}

/// The addresses that `owner` has.
pub fn of(dir: &Path, owner: &str) -> io::Result<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    for address in leased(dir)? {
        let link = existing(fs::read_link(dir.join(address.to_string())))?;
        addresses.extend(link.filter(|to| to.as_os_str() == owner).map(|_| address));
    }
    Ok(addresses)
}

/// All addresses that are taken.
pub fn leased(dir: &Path) -> io::Result<Vec<Ipv4Addr>> {
    let mut addresses = Vec::new();
    for entry in existing(fs::read_dir(dir))?.into_iter().flatten() {
        addresses.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<Ipv4Addr>().ok()),
        );
    }
    Ok(addresses)
}

fn check(subnet: Subnet, address: Ipv4Addr) -> Result<(), Error> {
    let reserved = [subnet.network(), subnet.gateway(), subnet.broadcast()];
    if subnet.contains(address) && !reserved.contains(&address) {
        Ok(())
    } else {
        Err(Error::OutOfRange { address, subnet })
    }
}

fn candidates(dir: &Path, subnet: Subnet) -> Result<impl Iterator<Item = Ipv4Addr>, Error> {
    let taken: std::collections::HashSet<Ipv4Addr> = leased(dir)
        .map_err(|source| Error::Io {
            path: dir.to_owned(),
            source,
        })?
        .into_iter()
        .collect();
    Ok(subnet
        .hosts()
        .filter(move |address| !taken.contains(address)))
}

/// `false` if somebody has it.
fn claim(dir: &Path, address: Ipv4Addr, owner: &str) -> io::Result<bool> {
    match symlink(owner, dir.join(address.to_string())) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn owner_of(dir: &Path, address: Ipv4Addr) -> String {
    fs::read_link(dir.join(address.to_string()))
        .map(|target| target.to_string_lossy().chars().take(12).collect())
        .unwrap_or_else(|_| "unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mybox-ipam-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn fifty_at_once_get_fifty_addresses() {
        let dir = scratch("fifty");
        let subnet = Subnet::preferred();
        let addresses: HashSet<Ipv4Addr> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50)
                .map(|n| {
                    let dir = &dir;
                    scope.spawn(move || lease(dir, subnet, &n.to_string(), None).unwrap())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(addresses.len(), 50);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_address_is_given_once_and_again_after_release() {
        let dir = scratch("once");
        let subnet: Subnet = "10.9.0.0/30".parse().unwrap();
        let only = Ipv4Addr::new(10, 9, 0, 2);
        assert_eq!(lease(&dir, subnet, "a", None).unwrap(), only);
        assert!(matches!(
            lease(&dir, subnet, "b", None),
            Err(Error::Exhausted(_))
        ));
        let taken = lease(&dir, subnet, "b", Some(only)).unwrap_err();
        assert_eq!(taken.to_string(), "10.9.0.2 is the address of container a");
        release(&dir, only, "b").unwrap();
        assert!(
            lease(&dir, subnet, "b", None).is_err(),
            "b released what a has"
        );
        release_all(&dir, "a").unwrap();
        assert_eq!(lease(&dir, subnet, "b", Some(only)).unwrap(), only);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn reserved_and_foreign_addresses_are_refused() {
        let dir = scratch("reserved");
        let subnet = Subnet::preferred();
        for address in ["10.10.0.0", "10.10.0.1", "10.10.255.255", "10.11.0.2"] {
            let answer = lease(&dir, subnet, "a", Some(address.parse().unwrap()));
            assert!(matches!(answer, Err(Error::OutOfRange { .. })), "{address}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
