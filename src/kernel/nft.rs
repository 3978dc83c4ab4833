//! nftables: changes through nft(8), the way every other tool on the host can read, and the
//! questions of a run's fast path ("is our element still there?") straight over netlink, since
//! starting nft(8) takes longer than starting a container.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::nfnetlink::{self, Request, attribute, nested};
use super::{Context, Error, Result};

/// Where nft(8) is looked for after the caller's `PATH`: a user's may lack them, a monitor has none.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Applies a script in one transaction: all of it or nothing.
pub fn apply(script: &str) -> Result<()> {
    let mut child = nft()
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
    let output = nft().args(arguments).output().map_err(not_installed)?;
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

fn nft() -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    let mut programs = dirs
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("nft"));
    let program = programs.find(|file| Path::is_file(file));
    Command::new(program.unwrap_or_else(|| "nft".into()))
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
pub fn set_has_interface(table: &str, set: &str, interface: &str) -> Result<bool> {
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
    has_element(table, set, &key, interface)
}

/// Whether the map or set has the element of this key, `shown` in errors. Each field of a key has four bytes,
/// or a multiple of that.
///
/// One `NFT_MSG_GETSETELEM` with the key: ENOENT stands for a missing
/// table, set or element alike.
pub fn has_element(table: &str, set: &str, key: &[u8], shown: &str) -> Result<bool> {
    // linux/netfilter/nf_tables.h: enum nft_set_elem_list_attributes, nft_list_attributes, ...
    const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
    const NFTA_SET_ELEM_LIST_SET: u16 = 2;
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    const NFTA_LIST_ELEM: u16 = 1;
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_DATA_VALUE: u16 = 1;
    let element = nested(NFTA_SET_ELEM_KEY, &attribute(NFTA_DATA_VALUE, key));
    let mut body = attribute(NFTA_SET_ELEM_LIST_TABLE, &c_string(table));
    body.extend(attribute(NFTA_SET_ELEM_LIST_SET, &c_string(set)));
    body.extend(nested(
        NFTA_SET_ELEM_LIST_ELEMENTS,
        &nested(NFTA_LIST_ELEM, &element),
    ));
    let mut socket = nfnetlink::open()?;
    match nfnetlink::ask(&mut socket, &request(libc::NFT_MSG_GETSETELEM as u16, body))? {
        Ok(_) => Ok(true),
        Err(libc::ENOENT) => Ok(false),
        Err(errno) => {
            let object = format!("{shown} in nftables set {table} {set}");
            Err(refused("look up", object, errno))
        }
    }
}

/// Whether the chain is there and drops what no rule decides.
pub fn chain_drops(table: &str, chain: &str) -> Result<bool> {
    // linux/netfilter/nf_tables.h: enum nft_chain_attributes; linux/netfilter.h: NF_DROP
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NF_DROP: [u8; 4] = 0u32.to_be_bytes();
    let attributes = chain_attributes(table, chain)?.unwrap_or_default();
    Ok(nfnetlink::find(&attributes, NFTA_CHAIN_POLICY) == Some(&NF_DROP))
}

fn chain_attributes(table: &str, chain: &str) -> Result<Option<Vec<u8>>> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    let mut body = attribute(NFTA_CHAIN_TABLE, &c_string(table));
    body.extend(attribute(NFTA_CHAIN_NAME, &c_string(chain)));
    let mut socket = nfnetlink::open()?;
    let answer = nfnetlink::ask(&mut socket, &request(libc::NFT_MSG_GETCHAIN as u16, body))?;
    match answer {
        Err(libc::ENOENT) => Ok(None),
        Err(errno) => Err(refused(
            "look up",
            format!("nftables chain {table} {chain}"),
            errno,
        )),
        Ok(attributes) => Ok(Some(attributes)),
    }
}

/// The rules of a chain, or of all of a table, as the kernel has them; none if there is no such chain.
pub fn rules(table: &str, chain: Option<&str>) -> Result<Vec<Vec<u8>>> {
    // linux/netfilter/nf_tables.h: enum nft_rule_attributes
    const NFTA_RULE_TABLE: u16 = 1;
    const NFTA_RULE_CHAIN: u16 = 2;
    let mut body = attribute(NFTA_RULE_TABLE, &c_string(table));
    if let Some(chain) = chain {
        body.extend(attribute(NFTA_RULE_CHAIN, &c_string(chain)));
    }
    let mut socket = nfnetlink::open()?;
    match nfnetlink::dump(&mut socket, &request(libc::NFT_MSG_GETRULE as u16, body))? {
        Err(libc::ENOENT) => Ok(Vec::new()),
        Err(errno) => {
            let object = format!("nftables rules of {table} {}", chain.unwrap_or_default());
            Err(refused("list", object, errno))
        }
        Ok(rules) => Ok(rules),
    }
}

/// An nf_tables request for family ip.
fn request(message: u16, body: Vec<u8>) -> Request {
    Request {
        subsystem: libc::NFNL_SUBSYS_NFTABLES as u8,
        message,
        body,
    }
}

fn refused(operation: &str, object: String, errno: i32) -> Error {
    Error {
        operation: operation.into(),
        object,
        errno,
        detail: None,
    }
}

fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
