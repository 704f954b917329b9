//! Searches a partition backwards from its end: for positions that only the newest copies still tell.

use std::time::Duration;

use crate::broker::{Class, Error, Fetched, SharedCluster, Source, SourceSettings};
use crate::model::names::TopicPartition;
use crate::model::record::RecordRef;
use crate::runtime::stop::Stop;

const FIRST_WINDOW_OFFSETS: i64 = 512;
const FETCH_TIMEOUT: Duration = Duration::from_millis(250);
/// Fetches without a record in a row before the search gives up and is tried again later.
const EMPTY_FETCHES_MAX: u32 = 60;
const BUFFER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a search came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// The newest match.
    Newest(T),
    /// The whole log was read; it holds none. The log was complete from offset 0 or not.
    Nowhere {
        /// Whether retention or a deletion has never taken a record from it.
        complete: bool,
    },
    /// The limit was reached first.
    NotWithinLimit,
}

/// The newest record of `partition` for which `pick` gives something, among the last `offsets_max` offsets.
/// Reads windows that double in size, so a match near the end costs little.
pub fn newest<T>(
    cluster: &SharedCluster,
    partition: &TopicPartition,
    offsets_max: i64,
    stop: &Stop,
    pick: impl Fn(&RecordRef<'_>) -> Option<T>,
) -> Result<Found<T>, Error> {
    let bounds = cluster.bounds(std::slice::from_ref(partition))?.swap_remove(0)?;
    let settings = SourceSettings { client_id: "longshore-recovery".to_owned(), buffer_bytes_max: BUFFER_BYTES_MAX };
    let mut source = cluster.source(&settings)?;
    let floor = bounds.start.max(bounds.end - offsets_max);
    let (mut until, mut window) = (bounds.end, FIRST_WINDOW_OFFSETS);
    while until > floor {
        let from = floor.max(until - window);
        if let Some(found) = newest_in(source.as_mut(), partition, from, until, stop, &pick)? {
            return Ok(Found::Newest(found));
        }
        (until, window) = (from, window.saturating_mul(2));
    }
    if floor > bounds.start {
        return Ok(Found::NotWithinLimit);
    }
    Ok(Found::Nowhere { complete: bounds.start == 0 })
}

fn newest_in<T>(
    source: &mut dyn Source,
    partition: &TopicPartition,
    from: i64,
    until: i64,
    stop: &Stop,
    pick: &impl Fn(&RecordRef<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    source.start(0, partition, from)?;
    let (mut newest, mut empty, mut events) = (None, 0, Vec::new());
    loop {
        source.fetch(4096, FETCH_TIMEOUT, &mut events)?;
        empty = if events.is_empty() { empty + 1 } else { 0 };
        if stop.is_asked() || empty > EMPTY_FETCHES_MAX {
            return Err(Error::new(
                Class::Retry,
                format!("search {partition} for the newest copy"),
                "no records arrive",
            ));
        }
        for event in events.drain(..) {
            match event {
                Fetched::Records { batch, .. } => {
                    for record in (0..batch.len()).map(|index| batch.record(index)) {
                        if record.offset >= until {
                            return Ok(newest);
                        }
                        newest = pick(&record).or(newest);
                        if record.offset + 1 >= until {
                            return Ok(newest);
                        }
                    }
                }
                Fetched::End { next, .. } if next >= until => return Ok(newest),
                Fetched::End { .. } => {}
                Fetched::Broken { error, .. } => return Err(Error { class: Class::Retry, ..error }),
            }
        }
    }
}
