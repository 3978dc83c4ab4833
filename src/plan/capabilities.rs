//! Which capabilities a container gets: the default ones, and what the user adds and drops (docker
//! run, "Runtime privilege and Linux capabilities").

use oci_spec::runtime::{Capabilities, Capability};

use super::{Error, RunRequest};

/// Podman's default set, which is the smaller of Podman's and Docker's: no MKNOD, no NET_RAW, no
/// AUDIT_WRITE.
const DEFAULT: [Capability; 11] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The word for all of them.
const ALL_OF_THEM: &str = "ALL";

/// `ALL`, or a capability with or without `CAP_`, in whichever case: as it is kept in a request.
pub fn parse(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper == ALL_OF_THEM || named(&upper).is_some() {
        Ok(upper)
    } else {
        Err(format!(
            "`{text}` is no capability such as NET_ADMIN or ALL (see capabilities(7))"
        ))
    }
}

fn named(word: &str) -> Option<Capability> {
    let bare = word.strip_prefix("CAP_").unwrap_or(word);
    ALL.into_iter().find(|it| it.to_string() == bare)
}

/// Whether these words give the right to make devices (mknod(2)), which opens them too.
pub fn opens_devices(added: &[String], dropped: &[String]) -> bool {
    let makes = |word: &String| named(word) == Some(Capability::Mknod);
    let all = added.iter().any(|word| word == ALL_OF_THEM) && !dropped.iter().any(makes);
    all || added.iter().any(makes)
}

/// The container's capabilities. `held` are mybox's own: nobody can give what he does not have.
pub(super) fn of(request: &RunRequest, held: &Capabilities) -> Result<Capabilities, Error> {
    if request.privileged {
        return Ok(held.clone());
    }
    let has_all = |words: &[String]| words.iter().any(|word| word == ALL_OF_THEM);
    let of = |words: &[String]| -> Vec<Capability> {
        words.iter().filter_map(|word| named(word)).collect()
    };
    let (added, dropped) = (of(&request.cap_add), of(&request.cap_drop));
    if let Some(missing) = added.iter().find(|it| !held.contains(it)) {
        return Err(Error::Conflict(format!(
            "--cap-add {missing}: mybox itself does not have this capability here"
        )));
    }
    let kept = |it: &Capability| !dropped.contains(it);
    if has_all(&request.cap_add) {
        return Ok(held.iter().copied().filter(kept).collect());
    }
    let default: &[Capability] = if has_all(&request.cap_drop) {
        &[]
    } else {
        &DEFAULT
    };
    Ok(default.iter().copied().filter(kept).chain(added).collect())
}

/// Every capability there is (capabilities(7)); the kernel takes those it knows.
pub const ALL: [Capability; 41] = [
    Capability::AuditControl,
    Capability::AuditRead,
    Capability::AuditWrite,
    Capability::BlockSuspend,
    Capability::Bpf,
    Capability::CheckpointRestore,
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::Kill,
    Capability::Lease,
    Capability::LinuxImmutable,
    Capability::MacAdmin,
    Capability::MacOverride,
    Capability::Mknod,
    Capability::NetAdmin,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetRaw,
    Capability::Perfmon,
    Capability::Setgid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysChroot,
    Capability::SysModule,
    Capability::SysNice,
    Capability::SysPacct,
    Capability::SysPtrace,
    Capability::SysRawio,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Syslog,
    Capability::WakeAlarm,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(add: &[&str], drop: &[&str]) -> Capabilities {
        let words = |words: &[&str]| words.iter().map(|word| parse(word).unwrap()).collect();
        let request = RunRequest {
            cap_add: words(add),
            cap_drop: words(drop),
            ..RunRequest::default()
        };
        of(&request, &ALL.into_iter().collect()).unwrap()
    }

    #[test]
    fn what_is_added_and_dropped_combines_as_dockers_does() {
        let default = with(&[], &[]);
        assert_eq!(default.len(), DEFAULT.len());
        let added = with(&["net_admin", "CAP_NET_RAW"], &["chown"]);
        assert!(added.contains(&Capability::NetAdmin) && added.contains(&Capability::NetRaw));
        assert!(!added.contains(&Capability::Chown));
        let only = with(&["chown"], &["all"]);
        assert_eq!(only, Capabilities::from([Capability::Chown]));
        let nearly_all = with(&["ALL"], &["CAP_SYS_ADMIN"]);
        assert_eq!(nearly_all.len(), ALL.len() - 1);
        assert!(parse("CAP_FLY").unwrap_err().contains("CAP_FLY"));
    }

    #[test]
    fn who_can_make_devices_is_known() {
        let opens = |add: &str, drop: &[&str]| {
            let words = |words: &[&str]| -> Vec<String> {
                words.iter().map(|word| parse(word).unwrap()).collect()
            };
            opens_devices(&words(&[add]), &words(drop))
        };
        assert!(opens("mknod", &[]) && opens("CAP_MKNOD", &[]) && opens("ALL", &[]));
        assert!(!opens("ALL", &["MKNOD"]) && !opens("CHOWN", &[]));
    }

    #[test]
    fn what_mybox_does_not_have_cannot_be_given() {
        let request = RunRequest {
            cap_add: vec!["CAP_SYS_ADMIN".into()],
            ..RunRequest::default()
        };
        let error = of(&request, &Capabilities::new()).unwrap_err().to_string();
        assert!(error.contains("SYS_ADMIN"), "{error}");
        let privileged = RunRequest {
            privileged: true,
            ..request
        };
        assert!(of(&privileged, &Capabilities::new()).unwrap().is_empty());
    }
}
