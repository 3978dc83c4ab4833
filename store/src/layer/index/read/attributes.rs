//! Extended attributes behind an inode, and those that it shares.

use super::{Parsed, Reader};
use crate::layer::index::format::{Attribute, BLOCK, LONGEST_SHARED, shared_body};
use crate::xattr::Attributes;

impl Reader<'_> {
    /// The attributes of an inode that take so many bytes here, sorted.
    pub(super) fn attributes(&mut self, at: usize, length: usize) -> Parsed<Attributes> {
        if length == 0 {
            return Ok(Attributes::new());
        }
        self.claim(length)?;
        let body = self.index.get(at..at + length);
        let body = body.ok_or("its attributes lie beyond the end")?;
        let (places, header) = shared_body(body)?;
        let mut attributes = Attributes::new();
        for place in places {
            attributes.push(self.shared(place)?.to_pair());
        }
        let mut own = &body[header..];
        while !own.is_empty() {
            let attribute = Attribute::decode(own)?;
            own = &own[attribute.length()..];
            attributes.push(attribute.to_pair());
        }
        attributes.sort();
        let twice = attributes.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if twice || attributes.is_empty() {
            return Err("it has an attribute twice, or none where it says some".to_owned());
        }
        Ok(attributes)
    }

    fn shared(&self, place: u32) -> Parsed<Attribute<'_>> {
        let start = u64::from(self.superblock.xattrs) * BLOCK + u64::from(place) * 4;
        let bytes = usize::try_from(start).ok();
        let bytes = bytes.and_then(|start| self.index.get(start..));
        let attribute = Attribute::decode(bytes.ok_or("a shared attribute lies beyond the end")?)?;
        if attribute.length() > LONGEST_SHARED {
            return Err("a shared attribute is too long".to_owned());
        }
        Ok(attribute)
    }
}
