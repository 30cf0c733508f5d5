//! The rules of the profile: which ABIs a machine has, and the calls whose arguments decide.
//!
//! The facts are those of Docker's default profile (moby/profiles, 2025) for the fourteen capabilities of a step:
//! chroot is allowed, what needs `CAP_SYS_ADMIN` (mount, unshare, setns, bpf ...) is not.

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Passes.
    Allow,
    /// `EPERM`.
    Refuse,
    /// `ENOSYS`, so that libraries try the older call.
    NotThere,
    /// Passes if the first argument has none of these bits.
    NoneOfBits(u32),
    /// Passes if the first argument is none of these.
    NoneOf(&'static [u32]),
    /// Passes if the first argument is one of these.
    OneOf(&'static [u32]),
}

/// `CLONE_NEW*` for namespaces: ns, cgroup, uts, ipc, user, pid, net.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// The kernel's crypto interface and the hypervisor's sockets.
const REFUSED_FAMILIES: &[u32] = &[libc::AF_ALG as u32, libc::AF_VSOCK as u32];

/// Linux, 32-bit Linux, each also with the old uname; and the question for the present one.
const PERSONALITIES: &[u32] = &[0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The rule for a call of the table.
pub fn rule(name: &str) -> Rule {
    match name {
        "clone" => Rule::NoneOfBits(NAMESPACE_FLAGS),
        // Its flags are in memory, where a filter can't look.
        "clone3" => Rule::NotThere,
        "socket" => Rule::NoneOf(REFUSED_FAMILIES),
        "personality" => Rule::OneOf(PERSONALITIES),
        _ => Rule::Allow,
    }
}

/// A column of the table of numbers.
#[derive(Debug)]
pub struct Column {
    /// Which one.
    pub index: usize,
    /// What is added to its numbers.
    pub offset: u32,
}

/// A way to call the kernel, as the `arch` word of `struct seccomp_data` names it.
#[derive(Debug)]
pub struct Abi {
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub audit: u32,
    /// Its numbers. x32 shares the word of x86_64.
    pub columns: &'static [Column],
}

const X32_BIT: u32 = 0x4000_0000;

#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub const X86: &[Abi] = &[
    Abi {
        audit: 0xc000_003e,
        columns: &[Column { index: 0, offset: 0 }, Column { index: 1, offset: X32_BIT }],
    },
    Abi { audit: 0x4000_0003, columns: &[Column { index: 2, offset: 0 }] },
];
#[cfg_attr(not(target_arch = "aarch64"), allow(dead_code))]
pub const ARM: &[Abi] = &[
    Abi { audit: 0xc000_00b7, columns: &[Column { index: 3, offset: 0 }] },
    Abi { audit: 0x4000_0028, columns: &[Column { index: 4, offset: 0 }] },
];
#[cfg_attr(not(target_arch = "riscv64"), allow(dead_code))]
pub const RISCV: &[Abi] = &[Abi { audit: 0xc000_00f3, columns: &[Column { index: 5, offset: 0 }] }];

#[cfg(target_arch = "x86_64")]
pub const ABIS: &[Abi] = X86;
#[cfg(target_arch = "aarch64")]
pub const ABIS: &[Abi] = ARM;
#[cfg(target_arch = "riscv64")]
pub const ABIS: &[Abi] = RISCV;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("the seccomp profile knows x86_64, aarch64 and riscv64 only");
