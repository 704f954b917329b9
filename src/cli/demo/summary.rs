//! What the demo claims, computed from the logs alone: nothing here asks a bridge.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use crate::broker::{Error, Fetched, SharedCluster, SourceSettings};
use crate::model::names::{RegionName, TopicName, TopicPartition};
use crate::model::provenance::{self, Origin};
use crate::model::record::RecordRef;
use crate::policy::plan;
use crate::policy::subscription::Deployment;

const BUFFER_BYTES_MAX: usize = 8 << 20;

/// Reads a topic from its beginning to the end that it has now.
fn scan(cluster: &SharedCluster, topic: &str, mut visit: impl FnMut(i32, &RecordRef<'_>)) -> Result<(), Error> {
    let name = TopicName::new(topic);
    let Some(description) = cluster.describe(std::slice::from_ref(&name))?.swap_remove(0) else { return Ok(()) };
    let settings = SourceSettings { client_id: "longshore-demo".to_owned(), buffer_bytes_max: BUFFER_BYTES_MAX };
    let mut source = cluster.source(&settings)?;
    for partition in 0..description.partitions {
        let at = TopicPartition::new(&name, partition);
        let bounds = cluster.bounds(std::slice::from_ref(&at))?.swap_remove(0)?;
        source.start(0, &at, bounds.start)?;
        let (mut next, mut events) = (bounds.start, Vec::new());
        while next < bounds.end {
            source.fetch(4096, Duration::from_millis(200), &mut events)?;
            for event in events.drain(..) {
                match event {
                    Fetched::Records { batch, .. } => {
                        for record in (0..batch.len()).map(|index| batch.record(index)) {
                            next = record.offset + 1;
                            visit(partition, &record);
                        }
                    }
                    Fetched::End { next: end, .. } => next = next.max(end),
                    Fetched::Broken { error, .. } => return Err(error),
                }
            }
        }
    }
    Ok(())
}

/// Records per partition.
pub fn counts(cluster: &SharedCluster, topic: &str) -> Result<Vec<usize>, Error> {
    let mut counts = Vec::new();
    scan(cluster, topic, |partition, _| {
        let index = usize::try_from(partition).unwrap_or(0);
        if counts.len() <= index {
            counts.resize(index + 1, 0);
        }
        counts[index] += 1;
    })?;
    Ok(counts)
}

/// One record as each region has it: where, and with which headers of ours.
pub fn follow(clusters: &BTreeMap<RegionName, SharedCluster>, topic: &str, body: &str) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for (region, cluster) in clusters {
        scan(cluster, topic, |partition, record| {
            if record.value.is_some_and(|value| value.starts_with(body.as_bytes())) {
                let origin = record.headers.last(provenance::ORIGIN).flatten();
                let origin = origin.map_or_else(
                    || "born here".to_owned(),
                    |origin| format!("ls_origin = {}", String::from_utf8_lossy(origin)),
                );
                let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                lines.push(format!("{region:>3}  {topic}/{partition} offset {:<6} {value}  {origin}", record.offset));
            }
        })?;
    }
    Ok(lines)
}

/// What one region holds of one topic.
struct Row {
    region: RegionName,
    topic: TopicName,
    born_here: usize,
    copies: BTreeMap<String, usize>,
    lost: usize,
    twice: usize,
    out_of_order: usize,
    unwanted: usize,
}

/// What all regions hold.
pub struct Summary {
    rows: Vec<Row>,
}

impl Summary {
    /// Whether nothing was lost, repeated, put out of order or copied for nobody.
    pub fn is_clean(&self) -> bool {
        self.rows.iter().all(|row| row.lost + row.twice + row.out_of_order + row.unwanted == 0)
    }
}

/// Reads all logs and compares them with what was produced and what the plan says.
pub fn read(
    clusters: &BTreeMap<RegionName, SharedCluster>,
    deployment: &Deployment,
    produced: &[(&str, usize)],
) -> Result<Summary, Error> {
    let costs = plan::costs(deployment);
    let mut rows = Vec::new();
    for (topic, produced) in produced {
        for (region, cluster) in clusters {
            let mut row = Row {
                region: region.clone(),
                topic: TopicName::new(topic),
                born_here: 0,
                copies: BTreeMap::new(),
                lost: 0,
                twice: 0,
                out_of_order: 0,
                unwanted: 0,
            };
            let mut newest: HashMap<(String, i32), i64> = HashMap::new();
            let mut bodies: HashMap<Vec<u8>, usize> = HashMap::new();
            scan(cluster, topic, |partition, record| {
                *bodies.entry(record.value.unwrap_or_default().to_vec()).or_default() += 1;
                let Some(origin) = record.headers.last(provenance::ORIGIN).flatten().and_then(Origin::parse) else {
                    row.born_here += 1;
                    return;
                };
                *row.copies.entry(origin.region.to_string()).or_default() += 1;
                let before = newest.insert((origin.region.into_owned(), partition), origin.at.offset);
                row.out_of_order += usize::from(before.is_some_and(|before| before >= origin.at.offset));
            })?;
            row.twice = bodies.values().map(|count| count - 1).sum();
            let wanted_from: Vec<&str> = costs
                .iter()
                .filter(|cost| cost.topic.as_str() == *topic && cost.copied_to.contains(region))
                .map(|cost| cost.born_in.as_str())
                .collect();
            row.lost = wanted_from
                .iter()
                .map(|origin| produced.saturating_sub(row.copies.get(*origin).copied().unwrap_or(0)))
                .sum::<usize>()
                + produced.saturating_sub(row.born_here);
            row.unwanted = row
                .copies
                .iter()
                .filter(|(origin, _)| !wanted_from.contains(&origin.as_str()))
                .map(|(_, count)| count)
                .sum();
            rows.push(row);
        }
    }
    Ok(Summary { rows })
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY);
        table.set_header(["topic", "region", "born here", "copies", "lost", "twice", "out of order", "for nobody"]);
        for row in &self.rows {
            let copies: Vec<String> = row.copies.iter().map(|(origin, count)| format!("{count} of {origin}")).collect();
            let copies = if copies.is_empty() { "-".to_owned() } else { copies.join(", ") };
            table.add_row([
                row.topic.to_string(),
                row.region.to_string(),
                row.born_here.to_string(),
                copies,
                row.lost.to_string(),
                row.twice.to_string(),
                row.out_of_order.to_string(),
                row.unwanted.to_string(),
            ]);
        }
        writeln!(f, "{table}")?;
        let verdict = if self.is_clean() { "lost 0, twice 0" } else { "NOT as promised: see the table" };
        write!(f, "{verdict}")
    }
}
