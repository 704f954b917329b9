//! One stream of a link: where it stands, what it is doing, why it stands still.
//!
//! A stream is one source partition. Its numbers come in two layers: what is committed, and what the open transaction
//! adds. An abort drops the second layer, a commit moves it to the first; nothing else changes a position. That is
//! invariant 1 in one place.

use std::collections::BTreeMap;
use std::fmt;

use crate::machine::note::Note;
use crate::policy::decide::Seen;

/// Why a stream stands still until somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    /// The source has deleted records that were not copied.
    Gap,
    /// The source topic was deleted and created anew.
    Recreated,
    /// The source's log ends before the position.
    Truncated,
    /// The group has no position, and the target holds no copy to recover it from.
    PositionLost,
    /// The target topic has fewer partitions than the source, and may not be grown.
    TooFewPartitions,
    /// The topic exists only on one side, and may not be created.
    MissingTopic,
    /// The target refused a record, and `on_rejected` says to stop.
    Rejected,
    /// The right to read the topic at the source or to write it in the target is missing.
    Denied,
}

impl Stop {
    /// As shown by `status`, `/readyz` and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Recreated => "recreated",
            Self::Truncated => "truncated",
            Self::PositionLost => "position_lost",
            Self::TooFewPartitions => "too_few_partitions",
            Self::MissingTopic => "missing_topic",
            Self::Rejected => "rejected",
            Self::Denied => "denied",
        }
    }

    /// Whether `links accept-gap` goes on from here.
    pub const fn is_acceptable(self) -> bool {
        matches!(self, Self::Gap | Self::Recreated | Self::Truncated)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What a stream is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its position is being found out.
    Resolving,
    /// It is read.
    Running,
    /// An operator paused it.
    Paused,
    /// It waits before it tries again.
    Retrying {
        /// What failed.
        reason: String,
    },
    /// It stands until somebody acts.
    Stopped {
        /// Why.
        stop: Stop,
        /// What the operator should know: offsets, ids.
        detail: String,
    },
    /// The target has this partition, the source does not (yet).
    NoSource,
}

impl Phase {
    /// As shown by `status`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Running | Self::NoSource => "running",
            Self::Paused => "paused",
            Self::Retrying { .. } => "retrying",
            Self::Stopped { .. } => "stopped",
        }
    }

    /// The reason to show with the label, if there is one.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Retrying { reason } => Some(reason.clone()),
            Self::Stopped { stop, detail } => Some(format!("{stop}: {detail}")),
            Self::Resolving | Self::Running | Self::Paused | Self::NoSource => None,
        }
    }
}

/// Records of the open transaction, by outcome. Becomes metrics at commit (invariant 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Taken from the source.
    pub fetched: u64,
    /// Written to the target.
    pub copied: u64,
    /// Key and value bytes of those.
    pub bytes: u64,
    /// Passed: copies that are not carried on.
    pub skipped_copy: u64,
    /// Passed: repeats of an at-least-once link.
    pub skipped_duplicate: u64,
    /// Passed: they have been in the target.
    pub skipped_on_path: u64,
    /// Written to the dead-letter topic.
    pub dead_lettered: u64,
    /// Copied although they had a foreign `ls_origin`.
    pub republished: u64,
    /// Copied without a readable routing key although the topic declares one.
    pub missing_key: u64,
    /// Copied without a readable version although the topic declares one.
    pub missing_version: u64,
}

impl Tally {
    /// Records with an outcome.
    pub const fn resolved(&self) -> u64 {
        self.copied + self.skipped_copy + self.skipped_duplicate + self.skipped_on_path + self.dead_lettered
    }
}

/// A stretch in which the target refuses some record and it is not known which: each transaction takes at most `chunk`
/// records of it, and each refusal halves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspects {
    first: i64,
    last: i64,
    chunk: u64,
}

/// One stream of a link.
#[derive(Clone, Debug)]
pub struct Stream {
    /// What it is doing.
    pub phase: Phase,
    /// Which creation of the source topic it reads.
    pub incarnation: u32,
    /// The operator's order that was carried out last.
    pub order: Option<String>,
    /// The newest copies seen up to `next`.
    pub seen: Seen,
    /// What the open transaction holds of it.
    pub open: Tally,
    /// The timestamp of the last record worked off, milliseconds.
    pub newest_ms: Option<i64>,
    begun: bool,
    next: i64,
    committed: Option<(i64, Note)>,
    seen_committed: Seen,
    suspects: Option<Suspects>,
    /// Records that the target is known to refuse, from `next` on, and why.
    refused: BTreeMap<i64, String>,
}

impl Stream {
    /// A stream whose position is still to be found.
    pub fn new() -> Self {
        Self {
            phase: Phase::Resolving,
            incarnation: 1,
            order: None,
            seen: Seen::default(),
            open: Tally::default(),
            newest_ms: None,
            begun: false,
            next: 0,
            committed: None,
            seen_committed: Seen::default(),
            suspects: None,
            refused: BTreeMap::new(),
        }
    }

    /// Begins at `next`; `committed` is what the group holds (`None`: nothing, so that the first commit fixes it).
    pub fn begin(&mut self, next: i64, note: Note, committed: Option<(i64, Note)>) {
        if matches!(self.phase, Phase::Stopped { stop: Stop::Rejected, .. }) {
            // The target may take it by now.
            self.refused.clear();
        }
        if self.incarnation != note.incarnation {
            self.refused.clear();
            self.suspects = None;
        }
        self.phase = Phase::Running;
        self.begun = true;
        self.incarnation = note.incarnation;
        self.order = note.order;
        self.seen = note.seen.clone();
        self.seen_committed = note.seen;
        self.open = Tally::default();
        self.next = next;
        self.committed = committed;
    }

    /// Forgets the position: it has to be read again from the group.
    pub const fn forget(&mut self) {
        self.begun = false;
    }

    /// Where it stands, when that is known.
    pub fn position(&self) -> Option<(i64, Note)> {
        self.begun.then(|| (self.next, self.note()))
    }

    /// What the group holds, when it was committed in this life.
    pub fn committed(&self) -> Option<(i64, Note)> {
        self.begun.then(|| self.committed.clone()).flatten()
    }

    /// The next offset to be worked off.
    pub const fn next(&self) -> i64 {
        self.next
    }

    /// What is remembered with the position.
    pub fn note(&self) -> Note {
        Note { incarnation: self.incarnation, order: self.order.clone(), seen: self.seen.clone() }
    }

    /// The record at `offset` has its outcome.
    pub const fn resolved(&mut self, offset: i64) {
        self.next = offset + 1;
    }

    /// Everything below `next` is worked off or is no record.
    pub fn passed(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Whether a commit would tell the group something new.
    pub fn is_dirty(&self) -> bool {
        self.begun
            && self.committed.as_ref().is_none_or(|(offset, note)| {
                *offset != self.next || note.order != self.order || note.incarnation != self.incarnation
            })
    }

    /// The transaction was committed at `next`: its tally, for the metrics.
    pub fn commit(&mut self) -> Tally {
        self.committed = Some((self.next, self.note()));
        self.seen_committed = self.seen.clone();
        if self.suspects.is_some_and(|suspects| self.next > suspects.last) {
            self.suspects = None;
        }
        self.refused = self.refused.split_off(&self.next);
        std::mem::take(&mut self.open)
    }

    /// The transaction was aborted: what it held, to be fetched again. The position must be read again from the group.
    pub fn abort(&mut self) -> Tally {
        self.seen = self.seen_committed.clone();
        if let Some((offset, _)) = self.committed {
            self.next = offset;
        }
        std::mem::take(&mut self.open)
    }

    /// The target refused the records `first..=last` of this stream, one of which is at fault.
    pub fn refuse(&mut self, first: i64, last: i64, count: u64, reason: String) {
        if count <= 1 {
            self.refused.insert(first, reason);
            self.suspects = None;
        } else {
            self.suspects = Some(Suspects { first, last, chunk: count / 2 });
        }
    }

    /// Why the record at `offset` cannot be copied, when that is known.
    pub fn refusal(&self, offset: i64) -> Option<&str> {
        self.refused.get(&offset).map(String::as_str)
    }

    /// How many more records this transaction may take when the next one is at `offset`; `None` for no limit.
    pub fn chunk(&self, offset: i64) -> Option<u64> {
        let suspects = self.suspects.filter(|suspects| offset >= suspects.first)?;
        // What lies behind the stretch must not share a transaction with it, or a refusal would widen the search.
        let left = if offset > suspects.last { 1 } else { suspects.chunk.max(1) };
        Some(left.saturating_sub(self.open.copied))
    }
}

impl Default for Stream {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(at: i64) -> Stream {
        let mut stream = Stream::new();
        let note = Note::first(2);
        stream.begin(at, note.clone(), Some((at, note)));
        stream
    }

    #[test]
    fn a_stream_that_was_never_committed_is_dirty_so_that_its_start_gets_fixed() {
        let mut stream = Stream::new();
        stream.begin(7, Note::first(2), None);
        assert!(stream.is_dirty());
        stream.commit();
        assert!(!stream.is_dirty());
    }

    #[test]
    fn an_abort_returns_to_what_was_committed() {
        let mut stream = started(10);
        stream.open.fetched = 2;
        stream.resolved(10);
        stream.resolved(13);
        assert_eq!(stream.next(), 14);
        assert_eq!(stream.abort().fetched, 2);
        assert_eq!((stream.next(), stream.open), (10, Tally::default()));
    }

    #[test]
    fn the_end_of_the_log_moves_the_position_over_markers_but_never_back() {
        let mut stream = started(10);
        stream.passed(12);
        stream.passed(11);
        assert_eq!(stream.next(), 12);
    }

    #[test]
    fn refused_records_are_found_by_halving() {
        let (bad, alone) = ([137, 139], 180);
        let mut stream = started(100);
        let (mut aborts, mut put_aside) = (0, Vec::new());
        while stream.next() < 200 {
            let (first, mut culprits) = (stream.next(), Vec::new());
            let aside_before = put_aside.len();
            while stream.next() < 200 && stream.chunk(stream.next()) != Some(0) {
                let offset = stream.next();
                if stream.refusal(offset).is_some() {
                    stream.open.dead_lettered += 1;
                    put_aside.push(offset);
                } else {
                    stream.open.copied += 1;
                    culprits.extend((bad.contains(&offset) || offset == alone).then_some(offset));
                }
                stream.resolved(offset);
            }
            let last = stream.next() - 1;
            match culprits.as_slice() {
                [] => drop(stream.commit()),
                // It was too large to share a batch, so the broker names it alone, whatever else is refused later.
                [offset] if *offset == alone => {
                    aborts += 1;
                    put_aside.truncate(aside_before);
                    stream.abort();
                    stream.refuse(alone, alone, 1, "too large".into());
                }
                _ => {
                    aborts += 1;
                    put_aside.truncate(aside_before);
                    stream.abort();
                    stream.refuse(first, last, (last - first + 1) as u64, "too old".into());
                }
            }
        }
        assert_eq!(put_aside, [137, 139, 180]);
        assert!(aborts <= 20, "{aborts} aborts for three records in a hundred");
    }
}
