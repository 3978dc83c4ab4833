//! Trees by chance, from a seed: of all kinds, with all that an index has a special place for.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::os::fd::OwnedFd;

use crate::error::show;
use crate::layer::content::{Content, ContentHasher, Contents};
use crate::layer::index::tree::{Device, Extent, FileData, Kind, Node, NodeId, Tree};
use crate::layer::index::write::{ReadAt, write};
use crate::layer::listing::entry::{self, Inode, What};
use crate::layer::listing::walk::Walk;
use crate::time::Time;

/// Numbers by chance, the same ones for the same seed (splitmix64).
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    pub(super) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}

/// Devices in memory, the first one being number 0.
pub(super) struct Memory(pub(super) Vec<Vec<u8>>);

impl ReadAt for Memory {
    fn read_exact_at(&self, device: u16, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        let bytes = self.0[usize::from(device)].get(start..start + buffer.len());
        buffer.copy_from_slice(bytes.expect("nothing is read beyond a device's end"));
        Ok(())
    }
}

pub(super) fn written(tree: &Tree, data: &Memory) -> Vec<u8> {
    let mut output = Cursor::new(Vec::new());
    write(tree, data, &mut output).unwrap();
    output.into_inner()
}

/// A tree, and what is in its devices; there is no index yet.
pub(super) fn random(seed: u64) -> (Tree, Memory) {
    let mut chance = Chance(seed);
    let mut memory = Memory(vec![Vec::new()]);
    let mut devices = Vec::new();
    for number in 1..=1 + chance.below(3) {
        let length = 20_000 + chance.below(200_000);
        memory
            .0
            .push(chance.bytes(usize::try_from(length).unwrap()));
        let tag = if number == 1 {
            Vec::new()
        } else {
            format!("device {number}").into_bytes()
        };
        devices.push(Device { tag, length });
    }
    let mut tree = Tree::new(devices);
    *tree.node_mut(NodeId::ROOT) = node(&mut chance, Kind::Directory(BTreeMap::new()));
    let mut directories = vec![NodeId::ROOT];
    let mut others = Vec::new();
    for _ in 0..chance.below(400) {
        let parent = *chance.pick(&directories);
        let name = name(&mut chance);
        if tree.node(parent).children().unwrap().contains_key(&*name) {
            continue;
        }
        let id = if !others.is_empty() && chance.one_in(12) {
            *chance.pick(&others)
        } else {
            let kind = kind(&mut chance, &tree.devices);
            let is_directory = matches!(kind, Kind::Directory(_));
            let id = tree.add(node(&mut chance, kind));
            if is_directory {
                &mut directories
            } else {
                &mut others
            }
            .push(id);
            id
        };
        tree.node_mut(parent)
            .children_mut()
            .unwrap()
            .insert(name, id);
    }
    (tree, memory)
}

fn name(chance: &mut Chance) -> Box<[u8]> {
    let length = match chance.below(10) {
        0 => 255,
        1 => 1,
        _ => 1 + chance.below(24),
    };
    let letters = b"!-.0AZaz_~\xc3\xa4\n\x01 \xff";
    loop {
        let name: Box<[u8]> = (0..length).map(|_| *chance.pick(letters)).collect();
        if *name != *b"." && *name != *b".." {
            return name;
        }
    }
}

fn node(chance: &mut Chance, kind: Kind) -> Node {
    let odd_time = Time {
        seconds: i64::try_from(chance.below(1 << 40)).unwrap() - (1 << 39),
        nanos: u32::try_from(chance.below(1_000_000_000)).unwrap(),
    };
    let ids = [0, 1, 1000, 65_535, 65_536, 4_000_000_000];
    Node {
        mode: u32::try_from(chance.below(0o10_000)).unwrap(),
        uid: *chance.pick(&ids),
        gid: *chance.pick(&ids),
        mtime: *chance.pick(&[Time::from_seconds(1_700_000_000), odd_time]),
        xattrs: xattrs(chance, matches!(kind, Kind::File(_) | Kind::Directory(_))),
        kind,
    }
}

/// The kernel shows `user.` attributes of files and directories only, and capabilities that are some.
fn xattrs(chance: &mut Chance, users: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let names: [&[u8]; 6] = [
        b"user.a",
        b"user.something",
        b"trusted.overlay.opaque",
        b"security.capability",
        b"user.long",
        b"trusted.t",
    ];
    let mut xattrs = BTreeMap::new();
    while chance.one_in(3) {
        let name = chance.pick(&names).to_vec();
        let value = match chance.below(6) {
            _ if name == b"security.capability" => CAPABILITY.to_vec(),
            0 => Vec::new(),
            1 | 2 => b"y".to_vec(),
            3 => vec![b'v'; usize::try_from(chance.below(700)).unwrap()],
            _ => chance.bytes(20),
        };
        if users || !name.starts_with(b"user.") {
            xattrs.insert(name, value);
        }
    }
    xattrs.into_iter().collect()
}

fn kind(chance: &mut Chance, devices: &[Device]) -> Kind {
    match chance.below(16) {
        0..4 => Kind::Directory(BTreeMap::new()),
        4..6 => {
            let length = *chance.pick(&[1, 7, 30, 400, 479, 480, 481, 512, 513, 1024, 4095]);
            Kind::Symlink(vec![b's'; length])
        }
        6 => Kind::CharacterDevice { major: 0, minor: 0 },
        7 => Kind::CharacterDevice {
            major: 0xfff,
            minor: 0xf_ffff,
        },
        8 => Kind::BlockDevice {
            major: 8,
            minor: 300,
        },
        9 => Kind::Fifo,
        10 => Kind::Socket,
        _ => Kind::File(file(chance, devices)),
    }
}

fn file(chance: &mut Chance, devices: &[Device]) -> FileData {
    if chance.one_in(8) {
        return FileData {
            size: *chance.pick(&[0, 1, 4096, 3 << 20]),
            extents: Vec::new(),
        };
    }
    // Blocks of the device and of the file, or any bytes.
    let unit = *chance.pick(&[1, 512, 512, 512, 4096]);
    let sparse = chance.one_in(3);
    let mut file = FileData::default();
    loop {
        let number = chance.below(devices.len() as u64);
        let device = &devices[usize::try_from(number).unwrap()];
        let at = chance.below(device.length / unit) * unit;
        let most = (device.length - at).min(1 + chance.below(40_000));
        let last = !sparse || chance.one_in(6);
        let length = if last { most } else { most / unit * unit };
        if length > 0 {
            let extent = Extent {
                offset: file.size,
                length,
                device: u16::try_from(number + 1).unwrap(),
                at,
            };
            file.size += length;
            file.extents.push(extent);
        }
        if last {
            break;
        }
        file.size += unit * (1 + chance.below(30));
    }
    if sparse && chance.one_in(3) {
        file.size += chance.below(100_000);
    }
    file
}

/// Everything there is to tell of a tree, by path: names of one node have its first name.
pub(super) fn told(tree: &Tree, data: &Memory) -> BTreeMap<Vec<u8>, Told> {
    let mut first = BTreeMap::new();
    let mut told = BTreeMap::new();
    tree.each_name(|path, id| {
        let first = first.entry(id).or_insert_with(|| path.to_vec());
        let mut node = tree.node(id).clone();
        let mut content = BTreeMap::new();
        match &mut node.kind {
            Kind::Directory(children) => children.clear(),
            Kind::File(file) => {
                content = content_of(file, data);
                file.extents.clear();
            }
            _ => {}
        }
        let first = first.clone();
        told.insert(
            path.to_vec(),
            Told {
                first,
                node,
                content,
            },
        );
    });
    told
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    first: Vec<u8>,
    node: Node,
    /// The blocks that are not only zeros.
    content: BTreeMap<u64, Vec<u8>>,
}

fn content_of(file: &FileData, data: &Memory) -> BTreeMap<u64, Vec<u8>> {
    let mut content = BTreeMap::new();
    for extent in &file.extents {
        let mut done = 0;
        while done < extent.length {
            let offset = extent.offset + done;
            let within = usize::try_from(offset % 512).unwrap();
            let length = (512 - offset % 512).min(extent.length - done);
            let block = content.entry(offset / 512).or_insert(vec![0; 512]);
            let part = &mut block[within..][..usize::try_from(length).unwrap()];
            data.read_exact_at(extent.device, part, extent.at + done)
                .unwrap();
            done += length;
        }
    }
    content.retain(|_, block| block.iter().any(|byte| *byte != 0));
    content
}

/// Asserts that a mount shows just this tree.
pub(super) fn compare_with_mount(tree: &Tree, data: &Memory, mount: &OwnedFd) {
    let mut walk = Walk::new(mount.try_clone().unwrap(), Contents::default());
    let mut shown = BTreeMap::new();
    while let Some(entry) = walk.next().unwrap() {
        shown.insert(entry.path, entry.what);
    }
    let told = told(tree, data);
    assert_eq!(shown.len(), told.len());
    for (path, told) in told {
        let path = if path.is_empty() { b".".to_vec() } else { path };
        let expected = if told.first == path || path == b"." {
            What::Inode(told.inode())
        } else {
            What::Hardlink(told.first)
        };
        assert_eq!(shown[&path], expected, "{}", show(&path));
    }
}

impl Told {
    /// As a walk tells it.
    fn inode(&self) -> Inode {
        let node = &self.node;
        let kind = match &node.kind {
            Kind::Directory(_) => entry::Kind::Directory,
            Kind::File(file) => entry::Kind::File {
                size: file.size,
                content: self.content(file.size),
            },
            Kind::Symlink(target) => entry::Kind::Symlink(target.clone()),
            &Kind::CharacterDevice { major, minor } => {
                entry::Kind::CharacterDevice { major, minor }
            }
            &Kind::BlockDevice { major, minor } => entry::Kind::BlockDevice { major, minor },
            Kind::Fifo => entry::Kind::Fifo,
            Kind::Socket => entry::Kind::Socket,
        };
        Inode {
            kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            mtime: node.mtime,
            xattrs: node.xattrs.clone(),
        }
    }

    fn content(&self, size: u64) -> Content {
        let mut hasher = ContentHasher::default();
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        for (number, block) in &self.content {
            let start = usize::try_from(number * 512).unwrap();
            let length = (bytes.len() - start).min(512);
            bytes[start..start + length].copy_from_slice(&block[..length]);
        }
        hasher.update(&bytes);
        hasher.finish()
    }
}
