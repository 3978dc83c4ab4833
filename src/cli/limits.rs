//! The flags of `run`, `create` and `update` that bound what a container may use.

use clap::Args;

use super::values::{self, PidsLimit};
use crate::kernel::cgroup::block_io::BlockIo;
use crate::kernel::cgroup::{CpuQuota, Limits, Swap};
use crate::life::update::Lifted;

#[derive(Debug, Args)]
pub(super) struct LimitArguments {
    /// Memory limit, as 512m
    #[arg(short, long, value_name = "SIZE", help_heading = "Limits")]
    #[arg(value_parser = values::bytes)]
    memory: Option<u64>,
    /// Memory and swap together; -1: no limit on swap [default: twice the memory]
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[arg(allow_negative_numbers = true, value_parser = values::swap)]
    memory_swap: Option<Swap>,
    /// Memory that is left to it as long as the host has enough, less than --memory
    #[arg(long, value_name = "SIZE", help_heading = "Limits")]
    #[arg(value_parser = values::bytes)]
    memory_reservation: Option<u64>,
    /// Number of processors, as 1.5
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(value_parser = values::cpus)]
    cpus: Option<CpuQuota>,
    /// Microseconds of processor time in each period, at least 1000; -1: no limit
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = "Limits",
        conflicts_with = "cpus"
    )]
    #[arg(allow_negative_numbers = true, value_parser = values::quota)]
    cpu_quota: Option<i64>,
    /// Length of a period of --cpu-quota in microseconds, 1000 to 1000000 [default: 100000]
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = "Limits",
        conflicts_with = "cpus"
    )]
    #[arg(value_parser = values::period)]
    cpu_period: Option<u64>,
    /// Share of processor time under contention, 2 to 262144
    #[arg(short = 'c', long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(value_parser = values::shares)]
    cpu_shares: Option<u64>,
    /// Processors to run on, as 0-2,4
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    #[arg(value_parser = values::cpu_list)]
    cpuset_cpus: Option<String>,
    /// Nodes whose memory it may use, as 0-1
    #[arg(long, value_name = "LIST", help_heading = "Limits")]
    #[arg(value_parser = values::cpu_list)]
    cpuset_mems: Option<String>,
    /// Share of the time of block devices under contention, 10 to 1000; 0: the usual
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(value_parser = values::weight)]
    blkio_weight: Option<u16>,
    /// Number of processes and threads; -1: no limit
    #[arg(long, value_name = "NUMBER", help_heading = "Limits")]
    #[arg(allow_negative_numbers = true, value_parser = values::pids)]
    pids_limit: Option<PidsLimit>,
}

impl LimitArguments {
    /// What was asked for, and nothing that follows from it.
    pub(super) fn limits(&self) -> Limits {
        // Docker's 0 is the same as no flag.
        let swap = self.memory_swap.filter(|swap| *swap != Swap::Total(0));
        Limits {
            memory: self.memory.filter(|bytes| *bytes > 0),
            swap,
            swap_is_explicit: swap.is_some(),
            memory_reservation: self.memory_reservation.filter(|bytes| *bytes > 0),
            cpu: self.cpu(),
            cpu_shares: self.cpu_shares.filter(|shares| *shares > 0),
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit.and_then(|limit| limit.0),
            block_io: BlockIo {
                weight: self.blkio_weight.filter(|weight| *weight > 0),
                devices: Vec::new(),
            },
            ..Limits::default()
        }
    }

    fn cpu(&self) -> Option<CpuQuota> {
        let asked = self.cpus.unwrap_or(CpuQuota {
            quota: self.cpu_quota.filter(|it| *it > 0).map(i64::cast_unsigned),
            period: self.cpu_period.filter(|period| *period > 0),
        });
        (asked != CpuQuota::default()).then_some(asked)
    }

    /// Of what no limit was asked for in so many words.
    pub(super) fn lifted(&self) -> Lifted {
        Lifted {
            pids: self.pids_limit.is_some_and(|limit| limit.0.is_none()),
            cpu: self.cpu_quota.is_some_and(|quota| quota < 0),
        }
    }
}
