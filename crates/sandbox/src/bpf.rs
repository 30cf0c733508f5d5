//! Instructions of the kernel's two virtual machines: classic BPF for seccomp, eBPF for device rules.

use std::collections::BTreeSet;

/// One classic instruction; the layout is that of `struct sock_filter` (`linux/filter.h`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

const LD_W_ABS: u16 = 0x20;
const JMP_JA: u16 = 0x05;
const JMP_JEQ: u16 = 0x15;
const JMP_JGE: u16 = 0x35;
const JMP_JSET: u16 = 0x45;
const RET_K: u16 = 0x06;

impl Insn {
    /// Loads the 32-bit word at byte `offset` of `struct seccomp_data`.
    pub fn load(offset: u32) -> Insn {
        Insn { code: LD_W_ABS, jt: 0, jf: 0, k: offset }
    }
    /// Skips `distance` instructions.
    pub fn jump(distance: u32) -> Insn {
        Insn { code: JMP_JA, jt: 0, jf: 0, k: distance }
    }
    /// Skips `yes` instructions if the word equals `k`, else `no`.
    pub fn if_equal(k: u32, yes: u8, no: u8) -> Insn {
        Insn { code: JMP_JEQ, jt: yes, jf: no, k }
    }
    /// Skips `yes` instructions if the word is at least `k`, else `no`.
    pub fn if_at_least(k: u32, yes: u8, no: u8) -> Insn {
        Insn { code: JMP_JGE, jt: yes, jf: no, k }
    }
    /// Skips `yes` instructions if the word has any bit of `k`, else `no`.
    pub fn if_any_bit(k: u32, yes: u8, no: u8) -> Insn {
        Insn { code: JMP_JSET, jt: yes, jf: no, k }
    }
    /// Ends with this verdict.
    pub fn ret(verdict: u32) -> Insn {
        Insn { code: RET_K, jt: 0, jf: 0, k: verdict }
    }

    /// One number, for the way to the runner.
    pub fn to_bits(self) -> u64 {
        u64::from(self.code) << 48 | u64::from(self.jt) << 40 | u64::from(self.jf) << 32 | u64::from(self.k)
    }
    /// The inverse of [`Insn::to_bits`].
    pub fn from_bits(bits: u64) -> Insn {
        Insn { code: (bits >> 48) as u16, jt: (bits >> 40) as u8, jf: (bits >> 32) as u8, k: bits as u32 }
    }
}

/// Type of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeType {
    Block = 1,
    Character = 2,
}

/// Devices that a step may open, by type, major and (unless any) minor number.
pub type DeviceRules = BTreeSet<(NodeType, u32, Option<u32>)>;

/// The devices of every step: null, zero, full, random, urandom, tty, console, ptmx and the pseudo-terminals.
pub fn default_devices() -> DeviceRules {
    let one = |major, minor| (NodeType::Character, major, Some(minor));
    let mut rules: DeviceRules = [3, 5, 7, 8, 9].into_iter().map(|minor| one(1, minor)).collect();
    rules.extend([0, 1, 2].map(|minor| one(5, minor)));
    rules.insert((NodeType::Character, 136, None));
    rules
}

/// An eBPF program of type `CGROUP_DEVICE`: any node may be made, only those of `rules` may be opened. The context
/// is `struct bpf_cgroup_dev_ctx` (`linux/bpf.h`).
pub fn device_program(rules: &DeviceRules) -> Vec<u64> {
    let insn = |code: u8, dst: u8, src: u8, offset: i16, imm: i32| -> u64 {
        u64::from(code)
            | u64::from(src << 4 | dst) << 8
            | u64::from(offset as u16) << 16
            | u64::from(imm as u32) << 32
    };
    let load = |dst, offset| insn(0x61, dst, 1, offset, 0);
    let set = |dst, imm| insn(0xb7, dst, 0, 0, imm);
    let skip_unless = |reg, imm: u32, distance| insn(0x55, reg, 0, distance, imm as i32);
    let exit = insn(0x95, 0, 0, 0, 0);
    const ONLY_MKNOD: u32 = 1;
    let mut program = vec![
        load(2, 0),
        insn(0xbf, 3, 2, 0, 0),
        insn(0x57, 2, 0, 0, 0xffff),
        insn(0x77, 3, 0, 0, 16),
        load(4, 4),
        load(5, 8),
        skip_unless(3, ONLY_MKNOD, 2),
        set(0, 1),
        exit,
    ];
    for (kind, major, minor) in rules {
        let tests = if minor.is_some() { 3 } else { 2 };
        program.push(skip_unless(2, *kind as u32, tests + 1));
        program.push(skip_unless(4, *major, tests));
        if let Some(minor) = minor {
            program.push(skip_unless(5, *minor, 2));
        }
        program.push(set(0, 1));
        program.push(exit);
    }
    program.push(set(0, 0));
    program.push(exit);
    program
}
