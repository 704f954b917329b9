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

/// The newest record of `partition` for which `pick` gives something, at offset `floor` or behind it.
/// Reads windows that double in size, so a match near the end costs little. `pick` is handed the records of a window in
/// their order and may remember something of them; it begins each window with nothing.
pub fn newest<T, M: Default>(
    cluster: &SharedCluster,
    partition: &TopicPartition,
    floor: i64,
    stop: &Stop,
    pick: impl Fn(&mut M, &RecordRef<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let bounds = cluster.bounds(std::slice::from_ref(partition))?.swap_remove(0)?;
    let settings = SourceSettings { client_id: "longshore-recovery".to_owned(), buffer_bytes_max: BUFFER_BYTES_MAX };
    let mut source = cluster.source(&settings)?;
    let floor = bounds.start.max(floor);
    let (mut until, mut window) = (bounds.end, FIRST_WINDOW_OFFSETS);
    while until > floor {
        let from = floor.max(until - window);
        if let Some(found) = newest_in(source.as_mut(), partition, from, until, stop, &pick)? {
            return Ok(Some(found));
        }
        (until, window) = (from, window.saturating_mul(2));
    }
    Ok(None)
}

/// Hands `each` the records of `partition` from offset `from` up to, without, `until`.
pub fn between(
    cluster: &SharedCluster,
    partition: &TopicPartition,
    from: i64,
    until: i64,
    stop: &Stop,
    each: impl FnMut(&RecordRef<'_>),
) -> Result<(), Error> {
    let settings = SourceSettings { client_id: "longshore-recovery".to_owned(), buffer_bytes_max: BUFFER_BYTES_MAX };
    read(cluster.source(&settings)?.as_mut(), partition, from, until, stop, each)
}

fn newest_in<T, M: Default>(
    source: &mut dyn Source,
    partition: &TopicPartition,
    from: i64,
    until: i64,
    stop: &Stop,
    pick: &impl Fn(&mut M, &RecordRef<'_>) -> Option<T>,
) -> Result<Option<T>, Error> {
    let (mut memory, mut newest) = (M::default(), None);
    read(source, partition, from, until, stop, |record| {
        if let Some(found) = pick(&mut memory, record) {
            newest = Some(found);
        }
    })?;
    Ok(newest)
}

fn read(
    source: &mut dyn Source,
    partition: &TopicPartition,
    from: i64,
    until: i64,
    stop: &Stop,
    mut each: impl FnMut(&RecordRef<'_>),
) -> Result<(), Error> {
    source.start(0, partition, from)?;
    let (mut empty, mut events) = (0, Vec::new());
    loop {
        source.fetch(4096, FETCH_TIMEOUT, &mut events)?;
        empty = if events.is_empty() { empty + 1 } else { 0 };
        if stop.is_asked() || empty > EMPTY_FETCHES_MAX {
            return Err(Error::new(Class::Retry, format!("search {partition} for copies"), "no records arrive"));
        }
        for event in events.drain(..) {
            match event {
                Fetched::Records { batch, .. } => {
                    for record in (0..batch.len()).map(|index| batch.record(index)) {
                        if record.offset >= until {
                            return Ok(());
                        }
                        each(&record);
                        if record.offset + 1 >= until {
                            return Ok(());
                        }
                    }
                }
                Fetched::End { next, .. } if next >= until => return Ok(()),
                Fetched::End { .. } => {}
                Fetched::Broken { error, .. } => return Err(Error { class: Class::Retry, ..error }),
            }
        }
    }
}
