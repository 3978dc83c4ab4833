//! What a group may use, as the user says it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Controller;
use super::block_io::BlockIo;

/// How long of each period a group may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CpuQuota {
    /// Microseconds of processor time, all processors together; `None` is no limit.
    pub quota: Option<u64>,
    /// Length of a period in microseconds, if not the usual one.
    pub period: Option<u64>,
}

impl CpuQuota {
    /// The kernel's own period, in microseconds.
    pub const USUAL_PERIOD: u64 = 100_000;

    /// The length of a period.
    pub fn length(self) -> u64 {
        self.period.unwrap_or(Self::USUAL_PERIOD)
    }

    /// What is written for the quota; `none` stands for no limit.
    pub(super) fn written(self, none: &str) -> String {
        self.quota
            .map_or_else(|| none.to_owned(), |quota| quota.to_string())
    }
}

/// A bound on memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Swap {
    /// Bytes of memory plus swap, as Docker's `--memory-swap` counts.
    Total(u64),
    /// No bound on swap.
    Unlimited,
}

impl Swap {
    /// As much swap as memory: what goes with a limit of memory, unless the user says otherwise.
    pub fn twice(memory: u64) -> Self {
        Self::Total(memory.saturating_mul(2))
    }
}

/// What a group may use; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Memory plus swap.
    pub swap: Option<Swap>,
    /// Whether the caller asked for `swap` in so many words; if not, a kernel without swap
    /// accounting is no error.
    pub swap_is_explicit: bool,
    /// Bytes of memory that are reclaimed last.
    pub memory_reservation: Option<u64>,
    /// Processor time.
    pub cpu: Option<CpuQuota>,
    /// Share of processor time under contention, 2 to 262144, 1024 being usual (v1's scale).
    pub cpu_shares: Option<u64>,
    /// Processors to run on, as `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Nodes to have memory of, as `0-1`.
    pub cpuset_mems: Option<String>,
    /// Number of tasks.
    pub pids: Option<u64>,
    /// How gladly its memory is swapped out, 0 to 100; only v1 has it.
    pub swappiness: Option<u8>,
    /// Whether its processes wait for memory where one of them would be killed; only v1 has it.
    pub waits_for_memory: bool,
    /// The use of block devices.
    pub block_io: BlockIo,
}

impl Limits {
    /// The controllers without which these limits would not hold.
    pub fn required(&self) -> BTreeSet<Controller> {
        let needs = [
            (
                Controller::Memory,
                self.memory.is_some()
                    || self.swap.is_some()
                    || self.memory_reservation.is_some()
                    || self.of_v1_only().is_some(),
            ),
            (
                Controller::Cpu,
                self.cpu.is_some() || self.cpu_shares.is_some(),
            ),
            (
                Controller::Cpuset,
                self.cpuset_cpus.is_some() || self.cpuset_mems.is_some(),
            ),
            (Controller::Pids, self.pids.is_some()),
            (Controller::Io, self.block_io.is_bounded()),
        ];
        needs
            .into_iter()
            .filter(|(_, needed)| *needed)
            .map(|(name, _)| name)
            .collect()
    }
    /// What of these is no limit of v2's: what errors call it.
    pub(super) fn of_v1_only(&self) -> Option<&'static str> {
        let swappiness = self.swappiness.map(|_| "swappiness");
        swappiness.or(self
            .waits_for_memory
            .then_some("the killing for want of memory"))
    }
}
