//! An Ethernet interface of the calling thread's network namespace whose other end is a descriptor.
//!
//! IPv4 is set up here, by the old ioctls; IPv6 sets itself up when a router announces itself, without the
//! second that looking for duplicates would take: nobody else is on this wire.

use std::fs::OpenOptions;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Its name in the namespace.
const NAME: &[u8] = b"eth0";
/// Its hardware address, which whoever serves the descriptor may count on.
pub const HARDWARE: [u8; 6] = [0x02, 0x63, 0x74, 0x72, 0x62, 0x01];
const DEVICE: &str = "/dev/net/tun";

/// What IPv4 is told of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    pub address: Ipv4Addr,
    pub mask: Ipv4Addr,
    pub gateway: Ipv4Addr,
    /// Bytes of a packet.
    pub mtu: u16,
}

/// Makes the interface; it is up and has a default route. It goes away with the descriptor.
pub fn attach(wire: &Wire) -> io::Result<OwnedFd> {
    quick_ipv6();
    let mut options = OpenOptions::new();
    let tap = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    let mut request = request();
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq.
    unsafe { control(&tap, TUNSETIFF, &mut request) }?;

    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let change = |number, set: fn(&mut libc::ifreq, &Wire)| {
        let mut request = self::request();
        set(&mut request, wire);
        // SAFETY: all numbers below read one ifreq, with the member of the union that `set` has set.
        unsafe { control(&socket, number, &mut request) }
    };
    change(libc::SIOCSIFHWADDR, |r, _| r.ifr_ifru.ifru_hwaddr = hardware())?;
    change(libc::SIOCSIFMTU, |r, wire| r.ifr_ifru.ifru_mtu = libc::c_int::from(wire.mtu))?;
    change(libc::SIOCSIFADDR, |r, wire| r.ifr_ifru.ifru_addr = internet(wire.address))?;
    change(libc::SIOCSIFNETMASK, |r, wire| r.ifr_ifru.ifru_netmask = internet(wire.mask))?;
    let up = |r: &mut libc::ifreq, _: &Wire| {
        r.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    };
    change(libc::SIOCSIFFLAGS, up)?;

    // SAFETY: an all-zero entry is valid: integers, plain addresses and a null pointer.
    let mut route: RouteEntry = unsafe { std::mem::zeroed() };
    route.destination = internet(Ipv4Addr::UNSPECIFIED);
    route.mask = internet(Ipv4Addr::UNSPECIFIED);
    route.gateway = internet(wire.gateway);
    route.flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads one rtentry, which names no device.
    unsafe { control(&socket, libc::SIOCADDRT, &mut route) }?;
    Ok(tap.into())
}

/// `_IOW('T', 202, int)` of `linux/if_tun.h`.
const TUNSETIFF: libc::c_ulong = 0x4004_54ca;

/// `struct rtentry` of `linux/route.h`, which not every libc has.
#[repr(C)]
struct RouteEntry {
    pad1: libc::c_ulong,
    destination: libc::sockaddr,
    gateway: libc::sockaddr,
    mask: libc::sockaddr,
    flags: libc::c_ushort,
    pad2: libc::c_short,
    pad3: libc::c_ulong,
    pad4: *mut libc::c_void,
    metric: libc::c_short,
    device: *mut libc::c_char,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    initial_rtt: libc::c_ushort,
}

/// `ioctl(2)`. The type of its number differs between C libraries.
///
/// # Safety
///
/// The kernel must read and write no more than a `T` for this number, and what it writes must be a valid one.
unsafe fn control<T>(fd: impl AsFd, number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; the argument is live.
    let result = unsafe {
        libc::syscall(libc::SYS_ioctl, fd.as_fd().as_raw_fd(), number, std::ptr::from_mut(argument))
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where a wire can't be had, and what to do about it.
pub fn hint(error: &io::Error) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::ENOENT | libc::ENODEV | libc::ENXIO => Some("the kernel has no TUN/TAP devices: modprobe tun"),
        libc::EACCES => Some("/dev/net/tun is not open to ordinary users here: chmod 0666 /dev/net/tun"),
        _ => None,
    }
}

/// A request about the interface.
fn request() -> libc::ifreq {
    // SAFETY: an all-zero ifreq is valid: integers and a union of plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(NAME) {
        *to = *from as libc::c_char;
    }
    request
}

fn internet(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn hardware() -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data.iter_mut().zip(HARDWARE) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data }
}

/// New interfaces of this namespace ask for routers at once and take their addresses as granted.
fn quick_ipv6() {
    for (name, value) in [("accept_dad", "0"), ("router_solicitation_delay", "0")] {
        // Where /proc/sys can't be written, or without IPv6, IPv6 comes later or never.
        let _slower = std::fs::write(format!("/proc/sys/net/ipv6/conf/default/{name}"), value);
    }
}
