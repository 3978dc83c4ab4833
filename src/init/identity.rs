//! Who the command runs as: `user[:group]` by the image's own /etc/passwd and /etc/group, read
//! inside the container, so that no link of the image leads to the host's.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use oci_spec::runtime::Process;
use rustix::fs::OFlags;
use rustix::process::{Gid, Uid};

use crate::kernel::root::Root;
use crate::kernel::{Context, Error, Result};

/// Numbers for a user, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    pub(super) groups: Vec<Gid>,
    /// The home directory of /etc/passwd; `/` for who is not in it.
    pub(super) home: String,
}

/// Reads the user of the spec, and the groups it has beside its own, against the container's files.
pub(super) fn resolve(process: &Process, added: &[String]) -> Result<Identity> {
    let user = process.user().username().as_deref().unwrap_or("0");
    let root = Root::open(Path::new("/"))?;
    let passwd = read_bounded(&root, "/etc/passwd")?;
    let group = read_bounded(&root, "/etc/group")?;
    let mut identity = look_up(user, &passwd, &group)?;
    add_groups(&mut identity, added, &group)?;
    Ok(identity)
}

/// A text file of the image, or nothing if there is none. Sixteen megabytes hold 200,000 users.
fn read_bounded(root: &Root, path: &str) -> Result<String> {
    const MOST: u64 = 16 << 20;
    // O_NONBLOCK: the image may have a fifo in its place.
    let fd = match root.open_in(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
        Err(error) if error.is(nix::errno::Errno::ENOENT) => return Ok(String::new()),
        answer => answer?,
    };
    let mut bytes = Vec::new();
    File::from(fd)
        .take(MOST + 1)
        .read_to_end(&mut bytes)
        .on("read", path)?;
    if bytes.len() as u64 > MOST {
        return Err(Error::new("read", path, "it is larger than 16 MiB"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A line of /etc/passwd (passwd(5)).
struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(PasswdEntry {
            name,
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home,
        })
    })
}

/// Name, number and members of the lines of /etc/group (group(5)).
fn group_entries(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or("")))
    })
}

/// Docker's rules: a name must be in the file, a number need not; without a group it is the
/// user's own, with the supplementary groups that list it; with a group there are none.
fn look_up(user: &str, passwd: &str, group: &str) -> Result<Identity> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = passwd_entries(passwd)
        .find(|entry| entry.name == user)
        .or_else(|| passwd_entries(passwd).find(|entry| Some(entry.uid) == number));
    let (uid, own_gid) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(number)) => (number, 0),
        (None, None) => {
            return Err(Error::new(
                "look up user",
                user,
                "it is not in the image's /etc/passwd",
            ));
        }
    };
    let gid = wanted_group.map_or(Ok(own_gid), |wanted| group_id(wanted, group))?;
    let name = entry.as_ref().map(|entry| entry.name);
    let is_member = |members: &str| members.split(',').any(|member| Some(member) == name);
    let groups = group_entries(group)
        .filter(|(_, number, members)| *number != gid && is_member(members))
        .filter(|_| wanted_group.is_none())
        .map(|(_, number, _)| Gid::from_raw(number))
        .collect();
    let home = entry.as_ref().map_or("/", |entry| entry.home);
    let home = if home.is_empty() { "/" } else { home };
    Ok(Identity {
        uid: checked_uid(uid)?,
        gid: checked_gid(gid)?,
        groups,
        home: home.to_owned(),
    })
}

/// What is given beside the user counts whichever group the user is in.
fn add_groups(identity: &mut Identity, added: &[String], group: &str) -> Result<()> {
    for wanted in added {
        let gid = checked_gid(group_id(wanted, group)?)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(())
}

fn group_id(wanted: &str, group: &str) -> Result<u32> {
    let by_name = group_entries(group)
        .find(|(name, ..)| *name == wanted)
        .map(|(_, gid, _)| gid);
    by_name.or_else(|| wanted.parse().ok()).ok_or_else(|| {
        Error::new(
            "look up group",
            wanted,
            "it is not in the image's /etc/group",
        )
    })
}

/// All ones means "no change" to setresuid(2) and setresgid(2), and would leave the command root.
const NO_CHANGE: u32 = u32::MAX;

fn checked_uid(uid: u32) -> Result<Uid> {
    match uid {
        NO_CHANGE => Err(Error::new("use user", uid, "this number means no user")),
        uid => Ok(Uid::from_raw(uid)),
    }
}

fn checked_gid(gid: u32) -> Result<Gid> {
    match gid {
        NO_CHANGE => Err(Error::new("use group", gid, "this number means no group")),
        gid => Ok(Gid::from_raw(gid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken line\n\
        www:x:33:34:www:/var/www:/bin/sh\n7:x:70:70::/seven:\nnohome:x:5:5:::\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nvideo:x:44:root,www\nadm:x:4:other\n";

    fn numbers(user: &str) -> (u32, u32, Vec<u32>, String) {
        let it = look_up(user, PASSWD, GROUP).unwrap();
        let groups = it.groups.iter().map(|gid| gid.as_raw()).collect();
        (it.uid.as_raw(), it.gid.as_raw(), groups, it.home)
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        assert_eq!(numbers(""), (0, 0, vec![44], "/root".into()));
        assert_eq!(numbers("www"), (33, 34, vec![44], "/var/www".into()));
        assert_eq!(numbers("33"), (33, 34, vec![44], "/var/www".into()));
        assert_eq!(numbers("www:adm"), (33, 4, vec![], "/var/www".into()));
        assert_eq!(numbers("1234"), (1234, 0, vec![], "/".into()));
        assert_eq!(numbers("1234:99"), (1234, 99, vec![], "/".into()));
        assert_eq!(
            numbers("7"),
            (70, 70, vec![], "/seven".into()),
            "a name wins over a number"
        );
        assert_eq!(numbers("nohome:"), (5, 5, vec![], "/".into()));
    }

    #[test]
    fn groups_are_added_by_name_and_by_number() {
        let mut identity = look_up("www:adm", PASSWD, GROUP).unwrap();
        let words = ["video", "99", "44"].map(ToOwned::to_owned);
        add_groups(&mut identity, &words, GROUP).unwrap();
        let numbers: Vec<u32> = identity.groups.iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(numbers, [44, 99]);
        let error = add_groups(&mut identity, &["crew".to_owned()], GROUP).unwrap_err();
        assert!(error.to_string().contains("crew"), "{error}");
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (user, named) in [
            ("nobody", "nobody"),
            ("www:nogroup", "nogroup"),
            ("-1", "-1"),
        ] {
            let error = look_up(user, PASSWD, GROUP).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        assert!(look_up("4294967295", "", "").is_err());
        assert!(look_up("0:4294967295", "", "").is_err());
    }
}
