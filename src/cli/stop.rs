//! `mybox stop` and `mybox restart`.

use clap::Args;

use super::each::{self, Outcome};
use super::{start, values};
use crate::container::events::{self, Event};
use crate::container::{Places, Timeout, find};
use crate::error::Failure;
use crate::life::stop::{self, How};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Seconds until it is killed; -1: never [default: the container's own, 10]
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    #[arg(allow_negative_numbers = true, value_parser = values::timeout)]
    time: Option<Timeout>,
    /// The signal that asks it to end [default: the container's own]
    #[arg(short, long, value_name = "SIGNAL", value_parser = values::signal)]
    signal: Option<i32>,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Arguments {
    fn how(&self) -> How {
        How {
            signal: self.signal,
            timeout: self.time,
        }
    }
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    each::container(&arguments.containers, |name| {
        stop::stop(places, find::one(places, name)?, arguments.how())
    })
}

pub(super) fn restart(places: &Places, arguments: &Arguments) -> Result<u8, Failure> {
    each::outcome(&arguments.containers, |name| {
        let container = find::one(places, name)?;
        let record = container.record.clone();
        stop::stop_to_restart(places, container, arguments.how())?;
        if start::start(places, name)? != 0 {
            return Ok(Outcome::Failed);
        }
        events::tell(places, &Event::of_container("restart", &record));
        Ok(Outcome::Done(name.to_owned()))
    })
}
