//! The trees of an image's layers as one, as overlayfs would show them: of a name that several have
//! the topmost counts, directories of one name are one, whiteouts and opaque directories have had
//! their effect and are gone.

use std::collections::BTreeMap;

use super::tree::{Device, Kind, Node, NodeId, OPAQUE, Tree};

/// A layer's tree, and what its data is called in the index of the whole.
pub(crate) struct Layer {
    pub(crate) tree: Tree,
    /// The index's own file, where what could not be pointed to in the tar lies.
    pub(crate) index: Device,
}

/// Merges layers, the base first. The devices of the result are those its files really lie in, in the
/// order of the layers: of each its index, then its own devices.
pub(crate) fn merge(layers: Vec<Layer>) -> Tree {
    let mut merged = Merged {
        tree: Tree::new(Vec::new()),
        devices: Vec::new(),
    };
    for layer in layers {
        merged.lay(layer);
    }
    merged.finish()
}

struct Merged {
    tree: Tree,
    /// All layers' devices so far.
    devices: Vec<Device>,
}

/// What is being laid over the merged tree.
struct Over {
    tree: Tree,
    /// What the layer's own device numbers have to grow by: its index becomes an ordinary device.
    shift: u16,
    /// For each node, what it is in the merged tree if it is laid already: it may have several names.
    laid: Vec<Option<NodeId>>,
}

impl Merged {
    fn lay(&mut self, layer: Layer) {
        let shift = u16::try_from(self.devices.len() + 1).expect("an image has at most 500 layers");
        self.devices.push(layer.index);
        self.devices.extend(layer.tree.devices.iter().cloned());
        let mut over = Over {
            laid: vec![None; layer.tree.len()],
            tree: layer.tree,
            shift,
        };
        // Pairs of directories of which the upper one is laid over the lower one.
        let mut todo = vec![(NodeId::ROOT, NodeId::ROOT)];
        while let Some((upper, lower)) = todo.pop() {
            self.lay_directory(&mut over, upper, lower, &mut todo);
        }
    }

    /// Lays what a directory says of itself, and what is in it.
    fn lay_directory(
        &mut self,
        over: &mut Over,
        upper: NodeId,
        lower: NodeId,
        todo: &mut Vec<(NodeId, NodeId)>,
    ) {
        let mut node = over.take(upper);
        let opaque = node.is_opaque();
        node.xattrs.retain(|(name, _)| name != OPAQUE);
        let above = match &mut node.kind {
            Kind::Directory(children) => std::mem::take(children),
            _ => unreachable!("only directories are laid over directories"),
        };
        let below = self.tree.node_mut(lower).children_mut();
        let mut children = std::mem::take(below.expect("only directories are laid over"));
        if opaque {
            children.clear();
        }
        for (name, child) in above {
            self.lay_child(over, child, name, &mut children, todo);
        }
        node.kind = Kind::Directory(children);
        *self.tree.node_mut(lower) = node;
    }

    fn lay_child(
        &mut self,
        over: &mut Over,
        child: NodeId,
        name: Box<[u8]>,
        children: &mut BTreeMap<Box<[u8]>, NodeId>,
        todo: &mut Vec<(NodeId, NodeId)>,
    ) {
        // One more name of what is laid already, and no longer in the layer's tree.
        if let Some(id) = over.laid[child.index()] {
            children.insert(name, id);
            return;
        }
        let node = over.tree.node(child);
        if node.is_whiteout() {
            children.remove(&name);
        } else if node.children().is_some() {
            let below = children.get(&name).copied();
            let is_directory = |id: &NodeId| self.tree.node(*id).children().is_some();
            let below = below.filter(is_directory);
            let lower = below.unwrap_or_else(|| self.tree.add(Node::implied_directory()));
            children.insert(name, lower);
            todo.push((child, lower));
        } else {
            let id = self.tree.add(over.take(child));
            over.laid[child.index()] = Some(id);
            children.insert(name, id);
        }
    }

    /// Leaves out the devices in which no file lies, and numbers the others anew.
    fn finish(mut self) -> Tree {
        let mut used = vec![false; self.devices.len() + 1];
        let mut named = Vec::new();
        self.tree.each_name(|_, id| named.push(id));
        named.sort_unstable();
        named.dedup();
        for id in &named {
            for extent in self.tree.node(*id).extents() {
                used[usize::from(extent.device)] = true;
            }
        }
        let mut numbers = vec![0; used.len()];
        for (device, (number, used)) in self
            .devices
            .iter()
            .zip(numbers.iter_mut().zip(used).skip(1))
        {
            if used {
                self.tree.devices.push(device.clone());
                *number = u16::try_from(self.tree.devices.len()).expect("fewer than all layers'");
            }
        }
        for id in named {
            if let Kind::File(file) = &mut self.tree.node_mut(id).kind {
                for extent in &mut file.extents {
                    extent.device = numbers[usize::from(extent.device)];
                }
            }
        }
        self.tree
    }
}

impl Over {
    /// Takes a node out of the layer's tree, its data numbered as the merged tree has it.
    fn take(&mut self, id: NodeId) -> Node {
        let nothing = Node::implied_directory();
        let mut node = std::mem::replace(self.tree.node_mut(id), nothing);
        if let Kind::File(file) = &mut node.kind {
            for extent in &mut file.extents {
                extent.device += self.shift;
            }
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Entry, Kind as EntryKind, writer};
    use crate::layer::index::build::build;
    use crate::time::Time;

    /// An entry from `d name`, `f name data`, `l name target` or `h name target`.
    fn entry(line: &str) -> (Entry, &str) {
        let mut words = line.splitn(3, ' ');
        let (kind, name) = (words.next().unwrap(), words.next().unwrap());
        let text = words.next().unwrap_or_default();
        let kind = match kind {
            "d" => EntryKind::Directory,
            "f" => EntryKind::File,
            "l" => EntryKind::Symlink,
            "h" => EntryKind::Hardlink,
            other => panic!("no kind of entry: {other}"),
        };
        let data = if kind == EntryKind::File { text } else { "" };
        let entry = Entry {
            name: name.into(),
            kind,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            link: if data.is_empty() {
                text.into()
            } else {
                Vec::new()
            },
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
            stored: data.len() as u64,
        };
        (entry, data)
    }

    fn tar(lines: &[&str]) -> Vec<u8> {
        let mut tar = Vec::new();
        for line in lines {
            let (entry, data) = entry(line);
            tar.extend(writer::headers(&entry));
            tar.extend_from_slice(data.as_bytes());
            tar.resize(tar.len() + writer::padding(data.len() as u64), 0);
        }
        tar.extend(writer::END);
        tar
    }

    fn device(tag: String) -> Device {
        Device {
            tag: tag.into_bytes(),
            length: 0,
        }
    }

    /// The merged tree's names, each with what it is; of a file its data, read from the tars.
    fn merged(layers: &[&[&str]]) -> (Vec<String>, Tree) {
        let tars: Vec<_> = layers.iter().map(|lines| tar(lines)).collect();
        let layer = |(number, tar): (usize, &Vec<u8>)| {
            let mut tree = build(&tar[..], &mut |_, _| {}).unwrap().tree;
            tree.devices[0] = device(format!("tar {number}"));
            let index = device(format!("index {number}"));
            Layer { tree, index }
        };
        let tree = merge(tars.iter().enumerate().map(layer).collect());
        let mut told = Vec::new();
        tree.each_name(|path, id| {
            let node = tree.node(id);
            let what = match &node.kind {
                Kind::Directory(_) => "/".to_owned(),
                Kind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
                Kind::File(file) => file.extents.iter().fold(" = ".to_owned(), |text, extent| {
                    let tag = &tree.devices[usize::from(extent.device) - 1].tag;
                    let number = tag.strip_prefix(b"tar ").expect("the data lies in a tar");
                    let tar = &tars[usize::from(number[0] - b'0')];
                    let at = usize::try_from(extent.at).unwrap();
                    let data = &tar[at..at + usize::try_from(extent.length).unwrap()];
                    text + std::str::from_utf8(data).unwrap()
                }),
                other => panic!("not expected: {other:?}"),
            };
            told.push(format!("{}{what}", String::from_utf8_lossy(path)));
        });
        (told, tree)
    }

    #[test]
    fn layers_are_laid_over_each_other_as_overlayfs_does_it() {
        type Case<'a> = (&'a str, &'a [&'a [&'a str]], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("one", &[&["d a", "f a/x 1"]], &["/", "a/", "a/x = 1"]),
            (
                "directories are joined, files are replaced",
                &[&["f a/x 1", "f a/y 1"], &["f a/y 2", "f a/z 2"]],
                &["/", "a/", "a/x = 1", "a/y = 2", "a/z = 2"],
            ),
            (
                "a whiteout takes away a file and a directory, and leaves nothing",
                &[
                    &["f a/x 1", "f b/y 1", "f c 1"],
                    &["f .wh.a w", "f b/.wh.y w"],
                ],
                &["/", "b/", "c = 1"],
            ),
            (
                "what a layer has itself outlives its own whiteouts",
                &[
                    &["f a/x 1", "f b 1"],
                    &["d a", "f a/z 2", "f .wh.a w", "f b 2", "f .wh.b w"],
                ],
                &["/", "a/", "a/z = 2", "b = 2"],
            ),
            (
                "an opaque directory shows nothing of those below",
                &[
                    &["f a/x 1", "f a/b/y 1"],
                    &["f a/.wh..wh..opq w", "f a/z 2"],
                    &["f a/v 3"],
                ],
                &["/", "a/", "a/v = 3", "a/z = 2"],
            ),
            (
                "a directory that comes back is empty",
                &[&["f a/x 1"], &["f .wh.a w"], &["d a"]],
                &["/", "a/"],
            ),
            (
                "a file in the place of a directory, a directory in that of a file",
                &[&["f a/x 1", "f b 1"], &["f a 2", "d b"], &["d a"]],
                &["/", "a/", "b/"],
            ),
            (
                "a symlink is never followed into another layer",
                &[&["f usr/lib/x 1"], &["l lib usr/lib"], &["f lib/y 3"]],
                &[
                    "/",
                    "lib/",
                    "lib/y = 3",
                    "usr/",
                    "usr/lib/",
                    "usr/lib/x = 1",
                ],
            ),
            (
                "the same layer twice is there once",
                &[&["f a 1"], &["f a 2"], &["f a 1"]],
                &["/", "a = 1"],
            ),
        ];
        for (name, layers, expected) in cases {
            assert_eq!(merged(layers).0, *expected, "{name}");
        }
    }

    #[test]
    fn names_of_one_file_stay_names_of_one_file() {
        let (names, tree) = merged(&[
            &["f a 1", "f o 1"],
            &["f x/b 22", "h c x/b", "h d c", "h o c"],
        ]);
        assert_eq!(
            names,
            ["/", "a = 1", "c = 22", "d = 22", "o = 22", "x/", "x/b = 22"]
        );
        let mut nodes = Vec::new();
        tree.each_name(|path, id| {
            if [&b"c"[..], b"d", b"o", b"x/b"].contains(&path) {
                nodes.push(id);
            }
        });
        nodes.dedup();
        assert_eq!(nodes.len(), 1);
    }

    #[test]
    fn only_devices_with_data_in_them_are_left() {
        let (_, tree) = merged(&[&["f a 1"], &["f b 1", "d e"], &["f .wh.a w", "f c 1"]]);
        let tags: Vec<_> = tree.devices.iter().map(|it| it.tag.clone()).collect();
        assert_eq!(tags, [b"tar 1", b"tar 2"]);
    }
}
