//! Extended attributes: those that several inodes have are written once, the others behind their inode.

use std::collections::BTreeMap;

use super::census::Census;
use crate::error::show;
use crate::layer::index::format::{Attribute, BODY_HEADER, LONGEST_SHARED};
use crate::xattr::Attributes;

/// How many of an inode's attributes can be shared: their count is a byte.
const MOST_SHARED: usize = 255;
/// What an inode's attributes take at most: their count in words has 16 bits.
const LONGEST_BODY: usize = BODY_HEADER + (u16::MAX as usize - 1) * 4;

/// Attributes that several inodes have, and where each is, in words from the beginning.
pub(super) struct Shared<'a> {
    places: BTreeMap<(&'a [u8], &'a [u8]), u32>,
    length: usize,
}

impl<'a> Shared<'a> {
    pub(super) fn of(census: &Census<'a>) -> Self {
        let mut counts = BTreeMap::new();
        for listed in &census.listed {
            for (name, value) in &listed.node.xattrs {
                *counts.entry((&**name, &**value)).or_insert(0_u32) += 1;
            }
        }
        let mut shared = Self {
            places: BTreeMap::new(),
            length: 0,
        };
        for ((name, value), count) in counts {
            let length = Attribute::new(name, value).map_or(usize::MAX, |xattr| xattr.length());
            if count < 2 || length > LONGEST_SHARED {
                continue;
            }
            // So many that their places do not fit are as good as not shared.
            let Ok(place) = u32::try_from(shared.length / 4) else {
                break;
            };
            shared.places.insert((name, value), place);
            shared.length += length;
        }
        shared
    }

    /// How many bytes the shared ones take.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        for (name, value) in self.places.keys() {
            Attribute::new(name, value)
                .expect("checked when it was counted")
                .encode(bytes);
        }
    }

    /// How many bytes an inode's attributes take behind it.
    ///
    /// # Errors
    ///
    /// In words, why an index cannot hold them.
    pub(super) fn length_of(&self, attributes: &Attributes) -> Result<usize, String> {
        if attributes.is_empty() {
            return Ok(0);
        }
        let mut length = BODY_HEADER;
        let mut shared = 0;
        for (name, value) in attributes {
            let attribute = Attribute::new(name, value)
                .map_err(|reason| format!("its attribute {}: {reason}", show(name)))?;
            if shared < MOST_SHARED && self.places.contains_key(&(&**name, &**value)) {
                shared += 1;
                length += 4;
            } else {
                length += attribute.length();
            }
            if length > LONGEST_BODY {
                return Err(format!(
                    "up to its attribute {} there are more bytes of attributes than the 262148 that \
                     an index can hold of a file",
                    show(name)
                ));
            }
        }
        Ok(length)
    }

    /// Writes what lies behind an inode: the header, where the shared ones are, and the others.
    pub(super) fn encode_of(&self, attributes: &Attributes, bytes: &mut Vec<u8>) {
        if attributes.is_empty() {
            return;
        }
        let start = bytes.len();
        bytes.extend([0; BODY_HEADER]);
        let mut shared = 0;
        let mut own = Vec::new();
        for (name, value) in attributes {
            match self.places.get(&(&**name, &**value)) {
                Some(place) if usize::from(shared) < MOST_SHARED => {
                    shared += 1_u8;
                    bytes.extend(place.to_le_bytes());
                }
                _ => own.push(Attribute::new(name, value).expect("checked when it was measured")),
            }
        }
        bytes[start + 4] = shared;
        for attribute in own {
            attribute.encode(bytes);
        }
    }
}
