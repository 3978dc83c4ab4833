//! nftables: changes through nft(8), the way every other tool on the host can read, and the one
//! question of a run's fast path ("is our element still there?") straight over netlink, since
//! starting nft(8) takes longer than starting a container.

use std::io::Write;
use std::process::{Command, Stdio};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use super::{Context, Error, Result};

/// Applies a script in one transaction: all of it or nothing.
pub fn apply(script: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(not_installed)?;
    let sent = child
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(script.as_bytes()));
    let output = child.wait_with_output().on("wait for", "nft")?;
    if !output.status.success() {
        return Err(Error::new("change", "firewall", first_line(&output.stderr)));
    }
    sent.on("write to", "nft")
}

/// What `nft` prints for these arguments, or `None` if the object is not there.
pub fn list(arguments: &[&str]) -> Result<Option<String>> {
    let output = Command::new("nft")
        .args(arguments)
        .output()
        .map_err(not_installed)?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let complaint = first_line(&output.stderr);
    if complaint.contains("No such file or directory") {
        Ok(None)
    } else {
        Err(Error::new("list", arguments.join(" "), complaint))
    }
}

fn not_installed(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::new(
            "execute",
            "nft",
            "it is not installed (Debian package nftables)",
        ),
        _ => Error::new("execute", "nft", error),
    }
}

fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .next()
        .unwrap_or("nft failed without a word")
        .to_owned()
}

/// Whether the set of interface names `set` in `table` (family ip) holds `interface`.
///
/// One `NFT_MSG_GETSETELEM` with the key: ENOENT stands for a missing
/// table, set or element alike.
pub fn set_has_interface(table: &str, set: &str, interface: &str) -> Result<bool> {
    // linux/netfilter/nf_tables.h: enum nft_set_elem_list_attributes, nft_list_attributes, ...
    const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
    const NFTA_SET_ELEM_LIST_SET: u16 = 2;
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    const NFTA_LIST_ELEM: u16 = 1;
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_DATA_VALUE: u16 = 1;
    let mut key = [0u8; 16];
    let name = interface.as_bytes();
    if name.len() >= key.len() {
        return Err(Error::new(
            "look up",
            interface,
            "an interface name has at most 15 bytes",
        ));
    }
    key[..name.len()].copy_from_slice(name);
    let element = nested(NFTA_SET_ELEM_KEY, &attribute(NFTA_DATA_VALUE, &key));
    let mut body = attribute(NFTA_SET_ELEM_LIST_TABLE, &c_string(table));
    body.extend(attribute(NFTA_SET_ELEM_LIST_SET, &c_string(set)));
    body.extend(nested(
        NFTA_SET_ELEM_LIST_ELEMENTS,
        &nested(NFTA_LIST_ELEM, &element),
    ));
    match ask(libc::NFT_MSG_GETSETELEM as u16, &body)? {
        0 => Ok(true),
        libc::ENOENT => Ok(false),
        errno => Err(Error {
            operation: "look up".into(),
            object: format!("{interface} in nftables set {table} {set}"),
            errno,
            detail: None,
        }),
    }
}

/// Sends one nf_tables request for family ip and answers with the errno, 0 for success.
fn ask(message: u16, body: &[u8]) -> Result<i32> {
    const HEADER: usize = 16;
    const NFPROTO_IPV4: u8 = 2;
    let mut socket = Socket::new(NETLINK_NETFILTER).on("open socket", "nfnetlink")?;
    socket.bind_auto().on("bind socket", "nfnetlink")?;
    socket
        .connect(&SocketAddr::new(0, 0))
        .on("connect socket", "nfnetlink")?;
    let length = (HEADER + 4 + body.len()) as u32;
    let kind = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | message;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(1u32.to_ne_bytes()); // sequence number
    bytes.extend(0u32.to_ne_bytes()); // port: the kernel fills it in
    bytes.extend([NFPROTO_IPV4, 0, 0, 0]); // nfgenmsg: family, version, resource id
    bytes.extend(body);
    socket.send(&bytes, 0).on("send to", "nfnetlink")?;
    let (answer, _) = socket.recv_from_full().on("receive from", "nfnetlink")?;
    let word = |at: usize| answer.get(at..at + 4).and_then(|b| b.try_into().ok());
    let is_error = answer.get(4..6) == Some(&(libc::NLMSG_ERROR as u16).to_ne_bytes()[..]);
    Ok(if is_error {
        word(HEADER).map_or(libc::EBADMSG, |b| -i32::from_ne_bytes(b))
    } else {
        0
    })
}

fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn nested(kind: u16, payload: &[u8]) -> Vec<u8> {
    attribute(kind | libc::NLA_F_NESTED as u16, payload)
}
