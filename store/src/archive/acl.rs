//! POSIX ACLs as star and GNU tar write them: text in `SCHILY.acl.access` and `SCHILY.acl.default`
//! (`user::rw-,user:1000:r--,mask::r--`), turned into the value of the extended attribute the kernel
//! keeps (linux/posix_acl_xattr.h).

/// posix_acl_xattr_header.
const VERSION: u32 = 2;
/// The id of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// The attribute's value, or what is wrong with the text.
pub(crate) fn from_text(text: &[u8]) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "an ACL that is no text".to_owned())?;
    let lines = text
        .split([',', '\n'])
        .map(without_comment)
        .filter(|line| !line.is_empty());
    let mut entries = lines.map(entry).collect::<Result<Vec<_>, _>>()?;
    // The kernel wants them by tag, then by id.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, permissions) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    Ok(value)
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or("").trim()
}

/// `user:1000:rw-`, or as star has it `user:name:rw-:1000`.
fn entry(line: &str) -> Result<(u16, u32, u16), String> {
    let bad = || format!("an ACL entry that is not understood: {line:?}");
    let fields: Vec<&str> = line.split(':').collect();
    let (kind, who, permissions, number) = match *fields {
        ["mask" | "m" | "other" | "o", permissions] => (fields[0], "", permissions, ""),
        [kind, who, permissions] => (kind, who, permissions, ""),
        [kind, who, permissions, number] => (kind, who, permissions, number),
        _ => return Err(bad()),
    };
    let tag = match (kind, who.is_empty()) {
        ("user" | "u", true) => 0x01,
        ("user" | "u", false) => 0x02,
        ("group" | "g", true) => 0x04,
        ("group" | "g", false) => 0x08,
        ("mask" | "m", true) => 0x10,
        ("other" | "o", true) => 0x20,
        _ => return Err(bad()),
    };
    let id = match (who, number) {
        ("", _) => NOBODY,
        (_, "") => who.parse().map_err(|_| {
            format!("an ACL for {who:?}, without a number: pack it with --numeric-owner")
        })?,
        (_, number) => number.parse().map_err(|_| bad())?,
    };
    let mut bits = 0;
    for letter in permissions.trim().chars() {
        bits |= match letter {
            'r' => 4,
            'w' => 2,
            'x' => 1,
            '-' => 0,
            _ => return Err(bad()),
        };
    }
    Ok((tag, id, bits))
}

#[cfg(test)]
mod tests {
    use super::from_text;

    #[test]
    fn texts_become_what_the_kernel_keeps() {
        let expected = hex::decode(concat!(
            "02000000",
            "01000600ffffffff",
            "02000400e8030000",
            "04000400ffffffff",
            "10000400ffffffff",
            "20000000ffffffff",
        ))
        .unwrap();
        for text in [
            "user::rw-,user:1000:r--,group::r--,mask::r--,other::---",
            "user::rw-\nmask::r--\ngroup::r--\nuser:alice:r--:1000\nother::---\n",
            "u::rw,u:1000:r,g::r,m:r,o:-  # comment",
        ] {
            assert_eq!(from_text(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in [
            "user:alice:r--",
            "user",
            "who::r--",
            "user::rq-",
            "mask:1:r--",
            "\u{ff}:",
        ] {
            assert!(from_text(text.as_bytes()).is_err(), "{text}");
        }
    }
}
