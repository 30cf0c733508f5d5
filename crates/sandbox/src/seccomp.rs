//! The seccomp filter of ordinary steps: Docker's default profile as data ([`numbers`]), compiled to classic BPF.
//!
//! One decision tree an ABI, after a look at which ABI the call was made by: on x86_64 also i386 and x32 programs
//! are filtered by their own numbers, on aarch64 also 32-bit arm. A call by any other ABI is refused, never killed.

mod numbers;
pub mod profile;

use std::sync::OnceLock;

use crate::bpf::Insn;
use profile::{Abi, Rule};

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS as u32;

/// Offsets in `struct seccomp_data`: number, ABI, and the low words of the first argument (little endian; the
/// kernel takes all arguments that are looked at here as 32-bit values).
const OFFSET_NUMBER: u32 = 0;
const OFFSET_ABI: u32 = 4;
const OFFSET_ARGUMENT_0: u32 = 16;

/// The program for this machine, compiled once.
pub fn default_program() -> &'static [Insn] {
    static PROGRAM: OnceLock<Vec<Insn>> = OnceLock::new();
    PROGRAM.get_or_init(|| compile(profile::ABIS))
}

fn compile(abis: &[Abi]) -> Vec<Insn> {
    let mut program = vec![Insn::load(OFFSET_ABI)];
    for abi in abis {
        let mut block = vec![Insn::load(OFFSET_NUMBER)];
        block.extend(tree(&segments(abi)));
        program.push(Insn::if_equal(abi.audit, 1, 0));
        program.push(Insn::jump(block.len() as u32));
        program.extend(block);
    }
    program.push(Insn::ret(EPERM));
    program
}

/// What holds from a number on, until the next segment.
type Segment = (u32, Rule);

fn segments(abi: &Abi) -> Vec<Segment> {
    let mut rules: Vec<(u32, Rule)> = Vec::new();
    for (name, columns) in numbers::CALLS {
        for column in abi.columns {
            if let Ok(number) = u32::try_from(columns[column.index]) {
                rules.push((number + column.offset, profile::rule(name)));
            }
        }
    }
    rules.sort_by_key(|(number, _)| *number);
    let mut out: Vec<Segment> = vec![(0, Rule::Refuse)];
    let mut next = 0;
    for (number, rule) in rules {
        if number > next {
            out.push((next, Rule::Refuse));
        }
        out.push((number, rule));
        next = number + 1;
    }
    out.push((next, Rule::Refuse));
    // Two segments from the same number: the later one counts; two of the same kind in a row are one.
    out.reverse();
    out.dedup_by_key(|(number, _)| *number);
    out.reverse();
    out.dedup_by_key(|(_, rule)| *rule);
    out
}

/// Binary search over the segments.
fn tree(segments: &[Segment]) -> Vec<Insn> {
    if let [(_, rule)] = segments {
        return leaf(*rule);
    }
    let (low, high) = segments.split_at(segments.len() / 2);
    let start = high[0].0;
    let (low, high) = (tree(low), tree(high));
    let mut out = match u8::try_from(low.len()) {
        Ok(distance) => vec![Insn::if_at_least(start, distance, 0)],
        Err(_) => vec![Insn::if_at_least(start, 0, 1), Insn::jump(low.len() as u32)],
    };
    out.extend(low);
    out.extend(high);
    out
}

fn leaf(rule: Rule) -> Vec<Insn> {
    let (allow, refuse) = (Insn::ret(RET_ALLOW), Insn::ret(EPERM));
    let first = Insn::load(OFFSET_ARGUMENT_0);
    match rule {
        Rule::Allow => vec![allow],
        Rule::Refuse => vec![refuse],
        Rule::NotThere => vec![Insn::ret(ENOSYS)],
        Rule::NoneOfBits(bits) => vec![first, Insn::if_any_bit(bits, 1, 0), allow, refuse],
        Rule::NoneOf(values) => {
            let mut out = vec![first];
            let count = values.len();
            out.extend(
                values.iter().enumerate().map(|(i, value)| Insn::if_equal(*value, (count - i) as u8, 0)),
            );
            out.extend([allow, refuse]);
            out
        }
        Rule::OneOf(values) => {
            let mut out = vec![first];
            let count = values.len();
            out.extend(
                values.iter().enumerate().map(|(i, value)| Insn::if_equal(*value, (count - i) as u8, 0)),
            );
            out.extend([refuse, allow]);
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel does, on (ABI, number, first argument).
    fn run(program: &[Insn], abi: u32, number: u32, argument: u64) -> u32 {
        let (mut at, mut word) = (0, 0);
        loop {
            let insn = program[at];
            at += 1;
            match insn.code {
                0x20 => {
                    word = match insn.k {
                        OFFSET_NUMBER => number,
                        OFFSET_ABI => abi,
                        OFFSET_ARGUMENT_0 => argument as u32,
                        other => panic!("load of {other}"),
                    }
                }
                0x05 => at += insn.k as usize,
                0x15 => at += usize::from(if word == insn.k { insn.jt } else { insn.jf }),
                0x35 => at += usize::from(if word >= insn.k { insn.jt } else { insn.jf }),
                0x45 => at += usize::from(if word & insn.k != 0 { insn.jt } else { insn.jf }),
                0x06 => return insn.k,
                other => panic!("instruction {other}"),
            }
        }
    }

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;

    #[test]
    fn every_number_of_every_abi_has_the_verdict_of_its_row() {
        for abis in [profile::X86, profile::ARM, profile::RISCV] {
            let program = compile(abis);
            assert!(program.len() < 4096, "the kernel takes 4096 instructions, not {}", program.len());
            for abi in abis {
                let bases: Vec<u32> = abi.columns.iter().map(|c| c.offset).chain([0, 0x4000_0000]).collect();
                for number in
                    bases.iter().flat_map(|base| (0..1024).map(move |n| base + n)).chain([0xf0002, u32::MAX])
                {
                    let row = numbers::CALLS.iter().find(|(_, columns)| {
                        abi.columns
                            .iter()
                            .any(|c| u32::try_from(columns[c.index]).is_ok_and(|n| n + c.offset == number))
                    });
                    let expected = match row.map(|(name, _)| profile::rule(name)) {
                        None | Some(Rule::Refuse) => EPERM,
                        Some(Rule::NotThere) => ENOSYS,
                        // With an argument of 0: AF_UNSPEC, PER_LINUX, no flags.
                        Some(_) => RET_ALLOW,
                    };
                    assert_eq!(run(&program, abi.audit, number, 0), expected, "{row:?} {number}");
                }
            }
        }
    }

    #[test]
    fn arguments_decide() {
        let program = compile(profile::X86);
        let socket = |family| run(&program, X86_64, 41, family);
        assert_eq!(socket(libc::AF_INET as u64), RET_ALLOW);
        assert_eq!(socket(libc::AF_ALG as u64), EPERM);
        assert_eq!(socket(libc::AF_VSOCK as u64), EPERM);
        assert_eq!(socket(libc::AF_ALG as u64 | 1 << 32), EPERM, "the kernel looks at 32 bits only");
        assert_eq!(socket(39), RET_ALLOW);
        assert_eq!(run(&program, I386, 359, libc::AF_ALG as u64), EPERM);
        let clone = |flags: i32| run(&program, X86_64, 56, flags as u32 as u64);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_THREAD), RET_ALLOW);
        for namespace in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWCGROUP] {
            assert_eq!(clone(namespace | libc::SIGCHLD), EPERM);
        }
        let personality = |persona| run(&program, X86_64, 135, persona);
        assert_eq!([0, 8, 0x20000, 0x20008, 0xffff_ffff].map(personality), [RET_ALLOW; 5]);
        assert_eq!(personality(0x0040_0000), EPERM, "no ADDR_NO_RANDOMIZE");
    }

    #[test]
    fn dangerous_calls_are_refused() {
        let program = compile(profile::X86);
        // mount, umount2, unshare, setns, bpf, keyctl, add_key, request_key, userfaultfd, kexec_load, io_uring_setup,
        // io_uring_enter, open_by_handle_at, perf_event_open, init_module, reboot, swapon, pivot_root, fsopen
        for number in
            [165, 166, 272, 308, 321, 250, 248, 249, 323, 246, 425, 426, 304, 298, 175, 169, 167, 155, 430]
        {
            assert_eq!(run(&program, X86_64, number, 0), EPERM, "{number}");
        }
        assert_eq!(run(&program, X86_64, 435, 0), ENOSYS, "clone3");
        assert_eq!(run(&program, 0xdead_beef, 0, 0), EPERM, "an unknown ABI");
    }
}
