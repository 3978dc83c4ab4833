//! Rules for devices as a program for cgroup v2, which has no files for them
//! (Documentation/admin-guide/cgroup-v2.rst, "Device controller").
//!
//! The kernel runs it whenever a process of the group opens or makes a device, and refuses (EPERM) if it
//! answers 0. It sees the kind and the access in one number, the major and the minor number
//! (linux/bpf.h, `struct bpf_cgroup_dev_ctx`):
//!
//! ```text
//!     r2 = kind, r3 = access, r4 = major, r5 = minor
//!     for each rule: not this kind, not all of this access, not this number -> the next
//!                    r0 = 1; exit
//!     r0 = 0; exit
//! ```
//! It goes with the group.

use super::DeviceRules;

/// linux/bpf.h: `BPF_DEVCG_DEV_BLOCK`, `BPF_DEVCG_DEV_CHAR`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_MKNOD`, `_READ`, `_WRITE`.
const ACCESS: [(char, i32); 3] = [('m', 1), ('r', 2), ('w', 4)];

/// Operations of eBPF (Documentation/bpf/standardization/instruction-set.rst).
const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const COPY: u8 = 0xbc;
const SET: u8 = 0xb4;
const JUMP_UNLESS: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers: the answer, the context, a scratch one, and what the rules look at.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// The program for these rules, 8 bytes an instruction; `None` if one of them cannot be read.
pub(super) fn program(rules: &DeviceRules) -> Option<Vec<u8>> {
    let mut code = Code::default();
    code.push(LOAD_WORD, KIND, CONTEXT, 0, 0);
    code.push(COPY, WANTED, KIND, 0, 0);
    code.push(AND, KIND, 0, 0, 0xffff);
    code.push(SHIFT_RIGHT, WANTED, 0, 0, 16);
    code.push(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
    code.push(LOAD_WORD, MINOR, CONTEXT, 8, 0);
    for rule in &rules.allowed {
        code.allow(&Rule::parse(rule)?);
    }
    code.answer(0);
    Some(code.bytes)
}

/// `c 1:3 rwm`.
struct Rule {
    kind: i32,
    access: i32,
    major: Option<i32>,
    minor: Option<i32>,
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = match words.next()? {
            "b" => BLOCK,
            "c" => CHARACTER,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |word: &str| match word {
            "*" => Some(None),
            word => word.parse().ok().map(Some),
        };
        let letters = words.next()?;
        let access = ACCESS
            .iter()
            .filter(|(letter, _)| letters.contains(*letter));
        Some(Self {
            kind,
            access: access.map(|(_, bit)| bit).sum(),
            major: number(major)?,
            minor: number(minor)?,
        })
    }
}

#[derive(Default)]
struct Code {
    bytes: Vec<u8>,
}

impl Code {
    fn push(&mut self, operation: u8, to: u8, from: u8, offset: i16, value: i32) {
        self.bytes.extend([operation, to | from << 4]);
        self.bytes.extend(offset.to_ne_bytes());
        self.bytes.extend(value.to_ne_bytes());
    }

    fn answer(&mut self, value: i32) {
        self.push(SET, ANSWER, 0, 0, value);
        self.push(EXIT, 0, 0, 0, 0);
    }

    fn allow(&mut self, rule: &Rule) {
        // What has to be equal, in the order it is looked at.
        let numbers = [(MAJOR, rule.major), (MINOR, rule.minor)];
        let numbers = numbers.into_iter().filter_map(|(at, it)| Some((at, it?)));
        let mut checks = vec![(KIND, rule.kind), (SCRATCH, 0)];
        checks.extend(numbers);
        // Over the checks that are left, and over the answer.
        let mut left = checks.len() as i16 + 2;
        for (register, value) in checks {
            if register == SCRATCH {
                self.push(COPY, SCRATCH, WANTED, 0, 0);
                self.push(AND, SCRATCH, 0, 0, !rule.access & 0xffff);
            }
            left -= 1;
            // The two instructions above lie between the first check and its end.
            let over = if register == KIND { left + 2 } else { left };
            self.push(JUMP_UNLESS, register, 0, over, value);
        }
        self.answer(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program answers, instruction by instruction.
    fn run(program: &[u8], kind: i32, access: i32, major: i32, minor: i32) -> i64 {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0_i64; 11];
        let mut at = 0;
        loop {
            let word = &program[at * 8..at * 8 + 8];
            let (to, from) = (usize::from(word[1] & 15), usize::from(word[1] >> 4));
            let offset = i16::from_ne_bytes([word[2], word[3]]);
            let value = i32::from_ne_bytes([word[4], word[5], word[6], word[7]]);
            at += 1;
            match word[0] {
                LOAD_WORD => registers[to] = i64::from(context[offset as usize / 4]),
                AND => registers[to] &= i64::from(value as u32),
                SHIFT_RIGHT => registers[to] >>= value,
                COPY => registers[to] = registers[from],
                SET => registers[to] = i64::from(value),
                JUMP_UNLESS if registers[to] != i64::from(value) => {
                    at += usize::try_from(offset).expect("a jump forward");
                }
                JUMP_UNLESS => {}
                EXIT => return registers[usize::from(ANSWER)],
                other => panic!("operation {other:#x}"),
            }
        }
    }

    fn rules(allowed: &[&str]) -> Vec<u8> {
        let allowed = allowed.iter().map(|rule| (*rule).to_owned()).collect();
        let rules = DeviceRules {
            restricted: true,
            allowed,
        };
        program(&rules).expect("rules that can be read")
    }

    #[test]
    fn what_a_rule_allows_is_allowed_and_nothing_else() {
        let (make, read, write) = (1, 2, 4);
        let program = rules(&["c *:* m", "c 1:3 rw", "b 8:* r", "c 136:* rwm"]);
        for (kind, access, major, minor, allowed) in [
            (CHARACTER, make, 4, 64, true),
            (BLOCK, make, 4, 64, false),
            (CHARACTER, read, 1, 3, true),
            (CHARACTER, read | write, 1, 3, true),
            // Each rule for itself: no rule has all three.
            (CHARACTER, make | read, 1, 3, false),
            (CHARACTER, read, 1, 4, false),
            (CHARACTER, read, 2, 3, false),
            (BLOCK, read, 1, 3, false),
            (BLOCK, read, 8, 77, true),
            (BLOCK, write, 8, 77, false),
            (BLOCK, read | write, 8, 77, false),
            (CHARACTER, make | read | write, 136, 1_048_575, true),
        ] {
            let answer = run(&program, kind, access, major, minor);
            let asked = format!("{kind} {access} {major}:{minor}");
            assert_eq!(answer, i64::from(allowed), "{asked}");
        }
    }

    #[test]
    fn without_a_rule_nothing_is_allowed() {
        assert_eq!(run(&rules(&[]), CHARACTER, 1, 1, 3), 0);
    }
}
