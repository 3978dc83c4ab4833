//! Which devices the processes of a container may open and make: the rules of its device cgroup
//! (runtime-spec config-linux.md, "Allowed Device list" and "Default Devices").

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, Spec};

use super::{Error, Given, RunRequest};
use crate::kernel::cgroup::DeviceRules;

/// A device of the host that the container gets, and what it may do with it.
#[derive(Debug, Clone)]
pub struct GivenDevice {
    /// The node that is made.
    pub node: LinuxDevice,
    /// Letters of `rwm`.
    pub access: String,
}

/// What every container may do, as Docker and runc have it: make any device, which opens none; and
/// open those that harm nobody.
const DEFAULT: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];

/// `--device-cgroup-rule`: `[abc] MAJOR:MINOR [rwm]`, `*` for any number. As it is kept in a request.
pub fn parse(text: &str) -> Result<String, String> {
    let shape = "such as `c 1:3 rwm`, `b 8:* r` or `a *:* rwm`";
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [kind, numbers, access] = words[..] else {
        return Err(format!("`{text}` is no rule {shape}"));
    };
    if !matches!(kind, "a" | "b" | "c") {
        return Err(format!("`{kind}` in `{text}` is not a, b or c: {shape}"));
    }
    let is_number = |word: &str| word == "*" || number(word).is_some();
    if !numbers
        .split_once(':')
        .is_some_and(|(major, minor)| is_number(major) && is_number(minor))
    {
        return Err(format!(
            "`{numbers}` in `{text}` is not MAJOR:MINOR: {shape}"
        ));
    }
    if !is_access(access) {
        return Err(format!(
            "`{access}` in `{text}` is not of the letters rwm: {shape}"
        ));
    }
    Ok(words.join(" "))
}

/// What may be done with a device: read, write, make; each letter once.
pub fn is_access(word: &str) -> bool {
    let once = |it: char| word.matches(it).count() == 1;
    !word.is_empty() && word.chars().all(|it| "rwm".contains(it) && once(it))
}

/// Digits alone: a sign is none of a device number's.
fn number(word: &str) -> Option<u32> {
    let digits = word.bytes().all(|it| it.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten()
}

/// The rules of a container, in the spec's form: nothing is allowed but what follows.
pub(super) fn rules(request: &RunRequest, given: &Given) -> Result<Vec<LinuxDeviceCgroup>, Error> {
    let mut all = LinuxDeviceCgroup::default();
    all.set_access(Some("rwm".to_owned()));
    all.set_allow(request.privileged);
    let mut rules = vec![all];
    if request.privileged {
        return Ok(rules);
    }
    rules.extend(DEFAULT.iter().flat_map(|rule| allowed(rule)));
    rules.extend(given.devices.iter().map(|device| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true);
        rule.set_typ(Some(device.node.typ()));
        rule.set_major(Some(device.node.major()));
        rule.set_minor(Some(device.node.minor()));
        rule.set_access(Some(device.access.clone()));
        rule
    }));
    rules.extend(
        request
            .device_cgroup_rules
            .iter()
            .flat_map(|rule| allowed(rule)),
    );
    Ok(rules)
}

/// A rule that was parsed. `a` is both kinds: the kernel takes the letter for everything, whatever
/// the numbers behind it are.
fn allowed(rule: &str) -> Vec<LinuxDeviceCgroup> {
    let words: Vec<&str> = rule.split(' ').collect();
    let [kind, numbers, access] = words[..] else {
        return Vec::new();
    };
    let (major, minor) = numbers.split_once(':').unwrap_or((numbers, "*"));
    let kinds: &[LinuxDeviceType] = match kind {
        "b" => &[LinuxDeviceType::B],
        "c" => &[LinuxDeviceType::C],
        _ => &[LinuxDeviceType::B, LinuxDeviceType::C],
    };
    let of_kind = |kind: &LinuxDeviceType| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true);
        rule.set_typ(Some(*kind));
        rule.set_major(number(major).map(i64::from));
        rule.set_minor(number(minor).map(i64::from));
        rule.set_access(Some(access.to_owned()));
        rule
    };
    kinds.iter().map(of_kind).collect()
}

/// The rules of a spec as the kernel reads them. One that allows everything is no rule: a new group
/// starts so.
pub fn of_spec(spec: &Spec) -> DeviceRules {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|it| it.resources().as_ref());
    let rules = resources.and_then(|it| it.devices().as_ref());
    let text = |rule: &LinuxDeviceCgroup| {
        let number = |it: Option<i64>| it.map_or("*".to_owned(), |it| it.to_string());
        let kind = rule.typ().unwrap_or(LinuxDeviceType::A);
        let (major, minor) = (number(rule.major()), number(rule.minor()));
        let access = rule.access().as_deref().unwrap_or("rwm");
        format!("{} {major}:{minor} {access}", kind.as_str())
    };
    let mut kept = DeviceRules::default();
    for rule in rules.into_iter().flatten() {
        match (rule.allow(), rule.typ()) {
            (true, None | Some(LinuxDeviceType::A)) => kept = DeviceRules::default(),
            (false, _) => kept.restricted = true,
            (true, _) => kept.allowed.push(text(rule)),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_docker_writes_them_and_errors_name_the_word() {
        for good in ["c 1:3 rwm", "b 8:* r", "a *:* rwm", "c *:1 mw"] {
            assert_eq!(parse(good).as_deref(), Ok(good));
        }
        let bad = [
            ("", "``"),
            ("c 1:3", "`c 1:3`"),
            ("x 1:3 r", "`x`"),
            ("c 1 r", "`1`"),
            ("c 1:+3 r", "`1:+3`"),
            ("c 1: r", "`1:`"),
            ("c 1:99999999999 r", "`1:99999999999`"),
            ("c 1:3 rx", "`rx`"),
            ("c 1:3 rr", "`rr`"),
        ];
        for (text, word) in bad {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn both_kinds_are_two_rules() {
        let rules = allowed("a 7:* rw");
        let kinds: Vec<_> = rules
            .iter()
            .map(|it| (it.typ(), it.major(), it.minor()))
            .collect();
        assert_eq!(
            kinds,
            [
                (Some(LinuxDeviceType::B), Some(7), None),
                (Some(LinuxDeviceType::C), Some(7), None),
            ]
        );
    }
}
