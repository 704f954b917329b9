//! One record, one verdict: was it born here, is it a copy, does this link carry it (semantics §3).
//!
//! The table, first match decides:
//!
//! | the record | verdict |
//! |---|---|
//! | has no `ls_origin` | born here: carried, stamped |
//! | repeats a copy of an at-least-once link | skipped, `duplicate_copy` |
//! | is a true copy that this link forwards (star) | carried as it is, path extended |
//! | is any other true copy | skipped, `copy` |
//! | has an `ls_origin` that does not fit the record | an application published it anew: carried, stamped anew, counted |

use crate::model::names::{RegionName, TopicName};
use crate::model::provenance::{self, Origin, StreamOffset};
use crate::model::record::{RecordRef, TimestampKind};

/// Where the records of one source partition may come from.
#[derive(Clone, Debug)]
pub struct Place {
    /// The region whose log is read.
    pub region: RegionName,
    /// The other regions of the configuration; their order numbers [`Seen`].
    pub others: Vec<RegionName>,
    /// The declared topic: what `ls_origin` of a true copy names.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
    /// What the position in the log tells of the origin.
    pub provenance: Provenance,
    /// Whether links into this region may have repeated a copy (`links.guarantee: at-least-once`).
    pub may_repeat: bool,
}

/// How births and copies are told apart in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// Both share the topic: by `ls_origin`.
    Header,
    /// `copies: own-topic`, the declared topic itself: all are births.
    AllBornHere,
    /// `copies: own-topic`, a topic of copies: all are copies from this one of `others`.
    AllFrom(usize),
}

/// The newest copy seen from each other region, in the order of [`Place::others`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen(Vec<Option<StreamOffset>>);

impl Seen {
    /// Nothing seen.
    pub fn none(regions: usize) -> Self {
        Self(vec![None; regions])
    }

    /// The newest from `region`.
    pub fn get(&self, region: usize) -> Option<StreamOffset> {
        self.0.get(region).copied().flatten()
    }

    /// Takes `at` as the newest from `region`.
    pub fn set(&mut self, region: usize, at: StreamOffset) {
        if self.0.len() <= region {
            self.0.resize(region + 1, None);
        }
        self.0[region] = Some(at);
    }

    fn is_below(&self, region: usize, at: StreamOffset) -> bool {
        self.get(region).is_none_or(|newest| at > newest)
    }

    /// Remembers a record that has its outcome.
    pub fn note(&mut self, birth: Birth) {
        if let Birth::Copied { region, at: Some(at) } = birth {
            self.set(region, at);
        }
    }
}

/// What a record is in the log it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// An application of this region wrote it.
    Here,
    /// A link wrote it.
    Copied {
        /// Born in this one of [`Place::others`].
        region: usize,
        /// Its place in its stream, when the header was read for it.
        at: Option<StreamOffset>,
    },
    /// An at-least-once link wrote it a second time.
    Repeated,
    /// An application of this region wrote it and passed on the headers of a copy.
    Republished,
}

/// Tells births from copies. `seen` holds the newest copies before this record; [`Seen::note`] moves it on once the
/// record has its outcome.
pub fn birth(place: &Place, seen: &Seen, record: &RecordRef<'_>) -> Birth {
    let header = record.headers.last(provenance::ORIGIN);
    match (&place.provenance, header) {
        (Provenance::AllFrom(region), _) => Birth::Copied { region: *region, at: None },
        (_, None) => Birth::Here,
        (Provenance::AllBornHere, Some(_)) => Birth::Republished,
        (Provenance::Header, Some(value)) => match value.and_then(Origin::parse) {
            None => Birth::Republished,
            Some(origin) => copied(place, seen, record, &origin),
        },
    }
}

fn copied(place: &Place, seen: &Seen, record: &RecordRef<'_>, origin: &Origin<'_>) -> Birth {
    let broker_set_time = record.timestamp_kind == TimestampKind::AppendTime;
    let Some(region) = place.others.iter().position(|other| other.as_str() == origin.region) else {
        return Birth::Republished;
    };
    let fits = origin.topic == place.topic.as_str() && origin.partition == place.partition && origin.fits_time(record);
    if !fits {
        Birth::Republished
    } else if seen.is_below(region, origin.at) {
        Birth::Copied { region, at: Some(origin.at) }
    } else if place.may_repeat && !broker_set_time {
        Birth::Repeated
    } else {
        Birth::Republished
    }
}

/// Why a link passes a record without copying it: the label `reason` of `longshore_link_skipped_records_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Skip {
    /// It is a copy, and this link does not forward it.
    Copy,
    /// It repeats a copy.
    DuplicateCopy,
    /// It has been in the target already.
    OnPath,
}

/// What a link does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Carry it with a new `ls_origin`; `republished`: it had a foreign one.
    Born {
        /// Its `ls_origin` and `ls_path` are replaced.
        republished: bool,
    },
    /// Carry it with the `ls_origin` it has.
    Forward,
    /// Pass it.
    Skip(Skip),
}

/// The verdict of a link to `target` that forwards copies born in `forwarded` (indexes of [`Place::others`]).
pub fn verdict(birth: Birth, forwarded: &[usize], target: &RegionName, record: &RecordRef<'_>) -> Verdict {
    match birth {
        Birth::Here => Verdict::Born { republished: false },
        Birth::Republished => Verdict::Born { republished: true },
        Birth::Repeated => Verdict::Skip(Skip::DuplicateCopy),
        Birth::Copied { region, .. } if !forwarded.contains(&region) => Verdict::Skip(Skip::Copy),
        Birth::Copied { .. } => {
            let path = record.headers.last(provenance::PATH).flatten().unwrap_or_default();
            if provenance::is_on_path(path, target) { Verdict::Skip(Skip::OnPath) } else { Verdict::Forward }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::{Header, Headers};

    fn place() -> Place {
        Place {
            region: "sh".into(),
            others: vec!["bj".into(), "hz".into()],
            topic: "orders".into(),
            partition: 3,
            provenance: Provenance::Header,
            may_repeat: false,
        }
    }

    fn copied(region: usize, incarnation: u32, offset: i64) -> Birth {
        Birth::Copied { region, at: Some(StreamOffset { incarnation, offset }) }
    }

    fn with_origin<T>(value: Option<&str>, check: impl FnOnce(RecordRef<'_>) -> T) -> T {
        let headers: Vec<Header> = value.map(|value| Header::text(provenance::ORIGIN, value)).into_iter().collect();
        check(RecordRef {
            offset: 9,
            timestamp_ms: 1000,
            timestamp_kind: TimestampKind::CreateTime,
            key: None,
            value: None,
            headers: if headers.is_empty() { Headers::Empty } else { Headers::Listed(&headers) },
        })
    }

    #[test]
    fn a_record_without_provenance_was_born_here() {
        with_origin(None, |record| assert_eq!(birth(&place(), &Seen::default(), &record), Birth::Here));
    }

    #[test]
    fn a_true_copy_names_its_own_topic_partition_time_and_another_region() {
        with_origin(Some("hz/orders/3/5/1000"), |record| {
            assert_eq!(birth(&place(), &Seen::default(), &record), copied(1, 1, 5));
        });
    }

    #[test]
    fn whatever_does_not_fit_is_a_republished_copy() {
        for origin in [
            "hz/clicks/3/5/1000", // another topic
            "hz/orders/2/5/1000", // another partition
            "hz/orders/3/5/1001", // another time
            "sh/orders/3/5/1000", // this very region
            "xx/orders/3/5/1000", // no region of ours
            "nonsense",
        ] {
            with_origin(Some(origin), |record| {
                assert_eq!(birth(&place(), &Seen::default(), &record), Birth::Republished, "{origin}");
            });
        }
    }

    #[test]
    fn an_offset_that_does_not_rise_is_a_repeat_only_behind_an_at_least_once_link() {
        let origins = ["hz/orders/3/5/1000", "hz/orders/3/5/1000", "hz/orders/3/6/1000", "hz/orders/3/2.0/1000"];
        for (may_repeat, second) in [(false, Birth::Republished), (true, Birth::Repeated)] {
            let place = Place { may_repeat, ..place() };
            let mut seen = Seen::none(2);
            let births = origins.map(|origin| {
                with_origin(Some(origin), |record| {
                    let birth = birth(&place, &seen, &record);
                    seen.note(birth);
                    birth
                })
            });
            assert_eq!(births, [copied(1, 1, 5), second, copied(1, 1, 6), copied(1, 2, 0)]);
        }
    }

    #[test]
    fn broker_set_time_is_not_compared_and_a_repeat_counts_as_new() {
        let place = Place { may_repeat: true, ..place() };
        let mut seen = Seen::none(2);
        let births = [0, 1].map(|_| {
            with_origin(Some("hz/orders/3/5/77"), |record| {
                let birth = birth(&place, &seen, &RecordRef { timestamp_kind: TimestampKind::AppendTime, ..record });
                seen.note(birth);
                birth
            })
        });
        assert_eq!(births, [copied(1, 1, 5), Birth::Republished]);
    }

    #[test]
    fn own_topics_do_not_trust_the_header() {
        with_origin(Some("hz/orders/3/5/1000"), |record| {
            let all_born = Place { provenance: Provenance::AllBornHere, ..place() };
            assert_eq!(birth(&all_born, &Seen::default(), &record), Birth::Republished);
            let all_from = Place { provenance: Provenance::AllFrom(0), ..place() };
            assert_eq!(birth(&all_from, &Seen::default(), &record), Birth::Copied { region: 0, at: None });
        });
    }

    #[test]
    fn a_link_carries_births_and_only_the_copies_it_forwards() {
        with_origin(None, |record| {
            let target = RegionName::new("bj");
            assert_eq!(verdict(Birth::Here, &[], &target, &record), Verdict::Born { republished: false });
            assert_eq!(verdict(Birth::Republished, &[], &target, &record), Verdict::Born { republished: true });
            assert_eq!(verdict(Birth::Repeated, &[0, 1], &target, &record), Verdict::Skip(Skip::DuplicateCopy));
            assert_eq!(verdict(copied(1, 1, 5), &[0], &target, &record), Verdict::Skip(Skip::Copy));
            assert_eq!(verdict(copied(1, 1, 5), &[1], &target, &record), Verdict::Forward);
        });
    }

    #[test]
    fn a_record_never_goes_to_a_region_on_its_path() {
        let headers = vec![Header::text(provenance::PATH, "hz,bj")];
        with_origin(None, |record| {
            let record = RecordRef { headers: Headers::Listed(&headers), ..record };
            assert_eq!(verdict(copied(1, 1, 5), &[1], &"bj".into(), &record), Verdict::Skip(Skip::OnPath));
            assert_eq!(verdict(copied(1, 1, 5), &[1], &"sh".into(), &record), Verdict::Forward);
        });
    }
}
