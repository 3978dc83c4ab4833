//! Tars by chance, from a seed: few names, so that entries meet.

use super::archive::{Archive, Raw, checked, number};
use super::trees::Chance;

/// A tar of entries that `fits` takes; it is asked about the tar with each further one.
pub(super) fn random(seed: u64, mut fits: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut chance = Chance(seed);
    let mut archive = Archive::new();
    for _ in 0..10 + chance.below(40) {
        let with = entry(archive.clone(), &mut chance);
        if fits(&with.clone().finish()) {
            archive = with;
        }
    }
    if chance.one_in(3) {
        // Its last block may lack what fills it, and the end mark.
        let length = 1 + usize::try_from(chance.below(3000)).unwrap();
        let mut tar = archive.file("last", &chance.bytes(length)).cut();
        let filling = length.next_multiple_of(512) - length;
        tar.truncate(tar.len() - filling);
        if fits(&tar) {
            return tar;
        }
        return tar[..tar.len() - length - 512].to_vec();
    }
    archive.finish()
}

fn path(chance: &mut Chance) -> String {
    let names = [
        "a", "b", "c", "dir", "link", "usr", "lib", "-", "~", "\u{e4}",
    ];
    let depth = 1 + chance.below(3);
    let names: Vec<&str> = (0..depth).map(|_| *chance.pick(&names)).collect();
    let before = *chance.pick(&["", "", "", "./", "/", ".//"]);
    format!("{before}{}", names.join("/"))
}

fn entry(archive: Archive, chance: &mut Chance) -> Archive {
    let archive = pax(archive, chance);
    let name = path(chance);
    let raw = Raw {
        name: name.as_bytes(),
        mode: u32::try_from(chance.below(0o10_000)).unwrap(),
        uid: *chance.pick(&[0, 1000, 65_535, 70_000, 3_000_000_000]),
        gid: *chance.pick(&[0, 5, 70_000]),
        mtime: *chance.pick(&[1_600_000_000, 1_600_000_000, 0, 10_000_000_000]),
        ..Raw::default()
    };
    let device = |chance: &mut Chance| {
        let number = |chance: &mut Chance| u32::try_from(1 + chance.below(200)).unwrap();
        (number(chance), number(chance))
    };
    match chance.below(20) {
        0..5 => {
            let length = *chance.pick(&[0, 1, 511, 512, 513, 5000, 40_000]);
            let content = chance.bytes(length);
            archive.data(&raw, &content)
        }
        5..9 => archive.raw(&Raw { kind: b'5', ..raw }),
        9..11 => {
            let target = *chance.pick(&["a", "../b", "/usr", "usr/lib", "dir/", "nowhere", "/"]);
            let link = target.as_bytes();
            archive.raw(&Raw {
                kind: b'2',
                link,
                ..raw
            })
        }
        11 => {
            let part = "l".repeat(usize::try_from(1 + chance.below(200)).unwrap());
            let long = vec![part; *chance.pick(&[1, 1, 3, 19])].join("/");
            archive
                .pax(&[("linkpath", long.as_bytes())])
                .raw(&Raw { kind: b'2', ..raw })
        }
        12 | 13 => {
            let target = path(chance);
            let link = target.as_bytes();
            archive.raw(&Raw {
                kind: b'1',
                link,
                ..raw
            })
        }
        14 => {
            let kind = *chance.pick(b"346");
            let device = device(chance);
            archive.raw(&Raw {
                kind,
                device,
                ..raw
            })
        }
        15 => archive.raw(&Raw { kind: b'3', ..raw }),
        16 => {
            let (parent, last) = name.rsplit_once('/').unwrap_or((".", &name));
            archive.file(&format!("{parent}/.wh.{last}"), b"")
        }
        17 => archive.file(&format!("{name}/.wh..wh..opq"), b""),
        _ => sparse(archive, &name, chance),
    }
}

/// What only PAX records say, for the next entry.
fn pax(archive: Archive, chance: &mut Chance) -> Archive {
    let time = format!("{}.{}", chance.below(1 << 31), chance.below(1_000_000_000));
    let time = if chance.one_in(2) {
        time
    } else {
        "-1.5".to_owned()
    };
    let value = chance.bytes(30);
    // Version 2; the owner, user 7, the group, the mask, others.
    let acl =
        b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\x07\0\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x05\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    // Version 2, a capability: net_bind_service.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let all: [(&str, &[u8]); 9] = [
        ("mtime", time.as_bytes()),
        ("SCHILY.xattr.user.a", b"same"),
        ("SCHILY.xattr.user.random", &value),
        ("SCHILY.xattr.user.empty", b""),
        ("SCHILY.xattr.trusted.t", &value),
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.system.posix_acl_access", acl),
        ("SCHILY.xattr.system.posix_acl_default", acl),
        (
            "SCHILY.acl.access",
            b"user::rwx,user:8:r-x,group::r--,mask::r-x,other::r--",
        ),
    ];
    let mut records = Vec::new();
    while chance.one_in(3) {
        let record = chance.pick(&all);
        if !records.contains(record) {
            records.push(*record);
        }
    }
    if records.is_empty() {
        return archive;
    }
    archive.pax(&records)
}

/// A sparse file in any of the four forms, its parts in blocks or not.
fn sparse(archive: Archive, name: &str, chance: &mut Chance) -> Archive {
    let unit = *chance.pick(&[1, 512, 4096]);
    let mut parts = Vec::new();
    let mut end = 0;
    for _ in 0..1 + chance.below(4) {
        let offset = end + unit * chance.below(20);
        let length = unit * (1 + chance.below(9));
        parts.push((offset, length));
        end = offset + length;
    }
    let size = end + chance.below(3) * 10_000;
    let data: u64 = parts.iter().map(|(_, length)| length).sum();
    let data = chance.bytes(usize::try_from(data).unwrap());
    let numbers: Vec<u64> = parts
        .iter()
        .flat_map(|(offset, length)| [*offset, *length])
        .collect();
    let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
    let (size_text, count) = (size.to_string(), parts.len().to_string());
    let raw = Raw {
        name: name.as_bytes(),
        ..Raw::default()
    };
    match chance.below(4) {
        0 => archive
            .block(old_gnu(name, size, &parts, data.len()))
            .bytes(&data),
        1 => {
            let mut records: Vec<(&str, &[u8])> = vec![
                ("GNU.sparse.size", size_text.as_bytes()),
                ("GNU.sparse.numblocks", count.as_bytes()),
            ];
            for pair in texts.chunks(2) {
                records.push(("GNU.sparse.offset", pair[0].as_bytes()));
                records.push(("GNU.sparse.numbytes", pair[1].as_bytes()));
            }
            archive.pax(&records).data(&raw, &data)
        }
        2 => {
            let map = texts.join(",");
            let records: &[(&str, &[u8])] = &[
                ("GNU.sparse.size", size_text.as_bytes()),
                ("GNU.sparse.numblocks", count.as_bytes()),
                ("GNU.sparse.name", name.as_bytes()),
                ("GNU.sparse.map", map.as_bytes()),
            ];
            archive.pax(records).data(&raw, &data)
        }
        _ => {
            let records: &[(&str, &[u8])] = &[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.name", name.as_bytes()),
                ("GNU.sparse.realsize", size_text.as_bytes()),
            ];
            let mut content = format!("{count}\n{}\n", texts.join("\n")).into_bytes();
            content.resize(content.len().next_multiple_of(512), 0);
            content.extend(data);
            archive.pax(records).data(&raw, &content)
        }
    }
}

fn old_gnu(name: &str, size: u64, parts: &[(u64, u64)], data: usize) -> [u8; 512] {
    let mut block = [0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(&number(0o644, 8));
    block[108..116].copy_from_slice(&number(0, 8));
    block[116..124].copy_from_slice(&number(0, 8));
    block[124..136].copy_from_slice(&number(data as u64, 12));
    block[136..148].copy_from_slice(&number(1, 12));
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    for (place, (offset, length)) in parts.iter().enumerate() {
        let field = &mut block[386 + place * 24..][..24];
        field[..12].copy_from_slice(&number(*offset, 12));
        field[12..].copy_from_slice(&number(*length, 12));
    }
    block[483..495].copy_from_slice(&number(size, 12));
    checked(block)
}
