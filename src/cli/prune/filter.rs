//! `prune --filter`.

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mybox_store::Image;

use crate::cli::values;
use crate::cli::volume::LabelFilter;
use crate::container::Record;
use crate::container::volume::Volume;
use crate::life::prune::Choice;

/// One filter as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Label(LabelFilter),
    /// Only what was made, and images that were used, before.
    Until(SystemTime),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(label) = LabelFilter::parse(text) {
            return Ok(Self::Label(label));
        }
        match text.strip_prefix("until=") {
            Some(time) => values::time(time).map(Self::Until),
            None => Err("expected label=, label!= or until=".to_owned()),
        }
    }
}

/// All filters: what goes fits every one.
pub(super) struct Filters<'a>(pub(super) &'a [Filter]);

impl Filters<'_> {
    /// The time before which everything must be.
    pub(super) fn until(&self) -> Option<SystemTime> {
        let times = self.0.iter().filter_map(|filter| match filter {
            Filter::Until(time) => Some(*time),
            Filter::Label(_) => None,
        });
        times.min()
    }

    fn labels(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.0.iter().all(|filter| match filter {
            Filter::Label(label) => label.fits(labels),
            Filter::Until(_) => true,
        })
    }

    fn age(&self, created: u64) -> bool {
        let created = UNIX_EPOCH + Duration::from_secs(created);
        self.until().is_none_or(|time| created <= time)
    }
}

impl Choice for Filters<'_> {
    fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    fn images_used_before(&self) -> Option<SystemTime> {
        self.until()
    }

    fn container(&self, record: &Record) -> bool {
        self.labels(&record.labels) && self.age(record.created)
    }

    fn image(&self, image: &Image) -> bool {
        self.labels(&image.config.config.labels)
    }

    fn volume(&self, volume: &Volume) -> bool {
        self.labels(&volume.labels) && self.age(volume.created)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_must_fit() {
        let filters: Vec<Filter> = ["label=a", "label!=b=1", "until=100"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        let filters = Filters(&filters);
        let labels = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            let labels = pairs.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            filters.labels(&labels.collect())
        };
        assert!(filters.until().is_some() && !filters.is_everything());
        assert!(labels(&[("a", "")]) && labels(&[("a", "x"), ("b", "2")]));
        assert!(!labels(&[]) && !labels(&[("a", ""), ("b", "1")]));
        assert!(filters.age(100) && !filters.age(101));
        assert!(Filters(&[]).is_everything() && Filters(&[]).age(u64::from(u32::MAX)));
        for bad in ["", "label", "until=", "until=soon", "name=x"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
