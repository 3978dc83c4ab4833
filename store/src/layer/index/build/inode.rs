//! What an entry says of its inode, as the kernel would take it: attributes that it would refuse are
//! refused, and an ACL has its say in the mode.

use rustix::io::Errno;

use crate::archive::{self, Entry};
use crate::error::{Error, Result, show};
use crate::layer::index::tree::{Kind, Node};
use crate::xattr::{self, Attributes};

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

impl Node {
    /// The node that an entry makes.
    pub(super) fn described(entry: &Entry, kind: Kind) -> Result<Self> {
        let mut mode = entry.mode;
        let mut xattrs = Attributes::new();
        for (name, value) in &entry.xattrs {
            if !xattr::belongs_in_layer(name) {
                continue;
            }
            let refused = |errno| refused(entry, name, errno);
            check(entry.kind, name).map_err(refused)?;
            let kept = match &name[..] {
                ACCESS_ACL => {
                    let acl = Acl::parse(value).map_err(refused)?;
                    mode = acl.mode(mode);
                    acl.says_more_than_a_mode()
                }
                DEFAULT_ACL if entry.kind != archive::Kind::Directory => false,
                DEFAULT_ACL => !Acl::parse(value).map_err(refused)?.is_empty(),
                _ => true,
            };
            xattrs.retain(|(known, _)| known != name);
            if kept {
                xattrs.push((name.clone(), value.clone()));
            }
        }
        xattrs.sort();
        if entry.kind == archive::Kind::Symlink {
            mode = 0o777;
        }
        Ok(Self {
            mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
            kind,
        })
    }
}

/// What setxattr(2) would say: attributes of users are for files and directories (xattr(7)), and a
/// symlink has no ACL.
fn check(kind: archive::Kind, name: &[u8]) -> Result<(), Errno> {
    use archive::Kind::{Directory, File, Symlink};
    if name.starts_with(b"user.") && !matches!(kind, File | Directory) {
        return Err(Errno::PERM);
    }
    if name == ACCESS_ACL && kind == Symlink {
        return Err(Errno::NOTSUP);
    }
    Ok(())
}

fn refused(entry: &Entry, attribute: &[u8], errno: Errno) -> Error {
    Error::EntryIo {
        entry: format!("{} (attribute {})", show(&entry.name), show(attribute)),
        operation: "set an extended attribute",
        source: errno.into(),
    }
}

/// A POSIX ACL as an extended attribute has it (linux/posix_acl_xattr.h).
struct Acl(Vec<AclEntry>);

#[derive(Clone, Copy)]
struct AclEntry {
    tag: u16,
    permissions: u16,
}

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

impl Acl {
    fn parse(value: &[u8]) -> Result<Self, Errno> {
        const VERSION: [u8; 4] = 2_u32.to_le_bytes();
        const ENTRY: usize = 8;
        let entries = value.strip_prefix(&VERSION).ok_or(Errno::INVAL)?;
        if entries.len() % ENTRY != 0 {
            return Err(Errno::INVAL);
        }
        let entry = |bytes: &[u8]| AclEntry {
            tag: u16::from_le_bytes([bytes[0], bytes[1]]),
            permissions: u16::from_le_bytes([bytes[2], bytes[3]]),
        };
        let acl = Self(entries.chunks_exact(ENTRY).map(entry).collect());
        if acl.is_valid() {
            Ok(acl)
        } else {
            Err(Errno::INVAL)
        }
    }

    /// One entry each for owner, group and others, in the order of the tags, and a mask if anybody
    /// else is named (acl(5), "Valid ACLs").
    fn is_valid(&self) -> bool {
        if self.is_empty() {
            return true; // which is how one is taken away
        }
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let known = |entry: &AclEntry| {
            [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].contains(&entry.tag)
                && entry.permissions <= 7
        };
        let named = count(USER) + count(GROUP) > 0;
        self.0.iter().all(known)
            && self.0.is_sorted_by_key(|entry| entry.tag)
            && [USER_OBJ, GROUP_OBJ, OTHER].map(count) == [1, 1, 1]
            && count(MASK) <= 1
            && (!named || count(MASK) == 1)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn says_more_than_a_mode(&self) -> bool {
        self.0.len() > 3
    }

    /// The mode of something with this ACL: the mask stands where the group's permissions are.
    fn mode(&self, mode: u32) -> u32 {
        if self.is_empty() {
            return mode;
        }
        let of = |tag| {
            let entry = self.0.iter().find(|entry| entry.tag == tag);
            entry.map(|entry| u32::from(entry.permissions))
        };
        let group = of(MASK).or_else(|| of(GROUP_OBJ)).unwrap_or(0);
        (mode & !0o777) | of(USER_OBJ).unwrap_or(0) << 6 | group << 3 | of(OTHER).unwrap_or(0)
    }
}
