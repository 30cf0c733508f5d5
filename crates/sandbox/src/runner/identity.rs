//! Who the step's process is: limits of resources, capabilities, seccomp, ids.

use rustix::fs::{Gid, Uid};
use rustix::thread;

use crate::bpf::Insn;
use crate::error::Error;
use crate::spec::{Identity, Security, Ulimit};
use crate::sys;

/// The capabilities of a step, numbers of `linux/capability.h`: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID,
/// SETUID, SETPCAP, NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const STEP: [u32; 14] = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];

/// Sets resource limits. Raising a hard limit needs the right to.
pub fn limit_resources(ulimits: &[Ulimit]) -> Result<(), Error> {
    for limit in ulimits {
        let reason = |text: String| Error::Limit { limit: "ulimit", reason: text };
        let resource = resource(&limit.name).ok_or_else(|| reason(format!("unknown name {}", limit.name)))?;
        sys::set_rlimit(resource, limit.soft, limit.hard)
            .map_err(|e| reason(format!("{}={}:{}: {e}", limit.name, limit.soft, limit.hard)))?;
    }
    Ok(())
}

/// The number of a resource by its name.
fn resource(name: &str) -> Option<u32> {
    Ulimit::NAMES.iter().position(|known| *known == name).map(|number| number as u32)
}

/// Takes capabilities away, loads the filter, becomes the user. The order matters: loading a filter without
/// `no_new_privs` needs `CAP_SYS_ADMIN`, and changing ids needs `CAP_SETUID`; both are gone afterwards.
pub fn assume(identity: &Identity, security: Security, filter: Option<&[Insn]>) -> Result<(), Error> {
    let failed = |action: &'static str| move |e: std::io::Error| Error::io(action, e);
    let had = sys::permitted_capabilities().map_err(failed("can't read capabilities"))?;
    let mut keep = match security {
        Security::Sandbox => STEP.iter().fold(0, |set, number| set | 1u64 << number),
        Security::Insecure => had,
    };
    // No more than the builder itself has.
    keep &= had;
    for number in 0..=sys::last_capability() {
        if keep & 1 << number == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0) {
                Ok(_) => {}
                // Older kernels know fewer.
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                Err(e) => return Err(Error::io("can't drop a capability", e)),
            }
        }
    }
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    sys::prctl(libc::PR_CAP_AMBIENT, clear, 0).map_err(failed("can't clear ambient capabilities"))?;
    if let Some(filter) = filter {
        sys::load_seccomp(filter).map_err(failed("can't load the seccomp filter"))?;
    }
    let Identity { uid, gid, groups } = identity;
    let user = |e: rustix::io::Errno| Error::User { uid: *uid, gid: *gid, source: e.into() };
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match thread::set_thread_groups(&groups) {
        // Where ids are mapped without the help of newgidmap, the kernel forbids setgroups altogether.
        Err(rustix::io::Errno::PERM) if groups.iter().all(|g| g.as_raw() == *gid) => {}
        other => other.map_err(user)?,
    }
    let id = Gid::from_raw(*gid);
    thread::set_thread_res_gid(id, id, id).map_err(user)?;
    let capabilities = failed("can't set capabilities");
    if security == Security::Insecure {
        sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0).map_err(&capabilities)?;
    }
    let id = Uid::from_raw(*uid);
    thread::set_thread_res_uid(id, id, id).map_err(user)?;
    if security == Security::Insecure {
        // Ambient ones survive the start of a program by an ordinary user, too.
        sys::set_capabilities(keep, keep).map_err(&capabilities)?;
        for number in (0..64).filter(|number| keep & 1 << number != 0) {
            sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)
                .map_err(&capabilities)?;
        }
        return Ok(());
    }
    // Leaving uid 0 has cleared the permitted set.
    let now = sys::permitted_capabilities().map_err(failed("can't read capabilities"))? & keep;
    sys::set_capabilities(now, 0).map_err(capabilities)
}
