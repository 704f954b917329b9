//! Routing rules: which region owns a key (semantics §5).
//!
//! A [`RuleSet`] is what a rule file says, already checked to be total and unambiguous; a [`Table`] is the same, made for
//! answering. Evaluation order: `exact`, longest `prefix`, `range`, `slots`. Other languages must come to the same
//! answers: docs/routing.md has test vectors.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::model::names::RegionName;

/// A checked rule set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// Its name.
    pub name: String,
    /// The file that says so, as it was named.
    pub file: String,
    /// At least 1; never goes down.
    pub epoch: u64,
    /// How many slots there are.
    pub slots: u32,
    /// How a key gets its slot.
    pub hash: Hash,
    /// First and last slot, and who owns them; in order, every slot exactly once.
    pub assign: Vec<(u32, u32, Owner)>,
    /// Single keys.
    pub exact: BTreeMap<String, Owner>,
    /// Beginnings of keys, never empty.
    pub prefix: BTreeMap<String, Owner>,
    /// Numeric keys, both ends included; in order, no two share a key.
    pub range: Vec<(i64, i64, Owner)>,
}

/// Whom a rule gives its keys to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The region.
    pub region: RegionName,
    /// The line of the rule in its file, from 1. No part of what the rule means.
    pub line: u32,
}

/// How a key gets its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// CRC-32 (IEEE) of the key's bytes.
    Crc32,
    /// The key as a signed decimal integer of any length, Euclidean remainder; other keys by CRC-32.
    Mod,
}

/// A key's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Below the number of slots.
    pub number: u32,
    /// Whether `mod` met a key that is no integer.
    pub fell_back: bool,
}

/// The rule that gave a key its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// The key itself.
    Exact,
    /// The longest prefix that fits.
    Prefix(&'a [u8]),
    /// The range from this to that, both included.
    Range(i64, i64),
    /// Its slot, and the first and last slot of the assignment.
    Slot(Slot, u32, u32),
}

/// Who owns a key, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// The region.
    pub region: &'a RegionName,
    /// The rule.
    pub by: By<'a>,
    /// Its line in the file.
    pub line: u32,
}

/// A rule set made for answering. Immutable; share it.
#[derive(Clone, Debug)]
pub struct Table {
    regions: Vec<RegionName>,
    hash: Hash,
    /// The assignment of each slot.
    slots: Vec<u32>,
    /// First and last slot of each assignment, in order.
    assign: Vec<(u32, u32, Target)>,
    exact: Keys,
    /// By falling length, each length in order.
    prefix: Vec<(usize, Keys)>,
    range: Vec<(i64, i64, Target)>,
}

/// Whole keys or beginnings of keys, in order.
type Keys = Vec<(Box<[u8]>, Target)>;

/// An owner by its number in the table.
#[derive(Clone, Copy, Debug)]
struct Target {
    region: u16,
    line: u32,
}

impl Table {
    /// The table of a checked rule set.
    ///
    /// # Panics
    /// When slots are unassigned, or there are more than 65,536 regions: the set was not checked.
    pub fn new(rules: &RuleSet) -> Self {
        let assigned = rules.assign.iter().map(|(.., owner)| owner);
        let all = assigned.chain(rules.exact.values()).chain(rules.prefix.values());
        let all = all.chain(rules.range.iter().map(|(.., owner)| owner)).map(|owner| &owner.region);
        let regions: BTreeSet<&RegionName> = all.collect();
        let regions: Vec<RegionName> = regions.into_iter().cloned().collect();
        let target = |owner: &Owner| {
            let found = regions.binary_search(&owner.region).ok().and_then(|index| u16::try_from(index).ok());
            Target { region: found.expect("every region was collected above, and there are few"), line: owner.line }
        };
        let mut slots = Vec::with_capacity(rules.slots as usize);
        for (number, (first, last, _)) in rules.assign.iter().enumerate() {
            assert_eq!(*first as usize, slots.len(), "slots are assigned in order and without a gap");
            slots.resize(*last as usize + 1, u32::try_from(number).expect("no more than slots"));
        }
        assert_eq!(slots.len(), rules.slots as usize, "every slot is assigned");
        let mut lengths: BTreeMap<Reverse<usize>, Keys> = BTreeMap::new();
        for (prefix, owner) in &rules.prefix {
            lengths.entry(Reverse(prefix.len())).or_default().push((prefix.as_bytes().into(), target(owner)));
        }
        Self {
            hash: rules.hash,
            slots,
            assign: rules.assign.iter().map(|(first, last, owner)| (*first, *last, target(owner))).collect(),
            exact: rules.exact.iter().map(|(key, owner)| (key.as_bytes().into(), target(owner))).collect(),
            prefix: lengths.into_iter().map(|(Reverse(length), prefixes)| (length, prefixes)).collect(),
            range: rules.range.iter().map(|(from, to, owner)| (*from, *to, target(owner))).collect(),
            regions,
        }
    }

    /// Who owns a key, and by which rule.
    pub fn owner(&self, key: &[u8]) -> Found<'_> {
        let (target, by) = self.find(key);
        Found { region: &self.regions[usize::from(target.region)], by, line: target.line }
    }

    fn find(&self, key: &[u8]) -> (Target, By<'_>) {
        if let Some(index) = position(&self.exact, key) {
            return (self.exact[index].1, By::Exact);
        }
        for (length, prefixes) in &self.prefix {
            if let Some(index) = key.get(..*length).and_then(|start| position(prefixes, start)) {
                return (prefixes[index].1, By::Prefix(&prefixes[index].0));
            }
        }
        if !self.range.is_empty()
            && let Some(number) = small_integer(key)
        {
            let index = self.range.partition_point(|(_, to, _)| *to < number);
            if let Some((from, to, target)) = self.range.get(index).filter(|(from, ..)| *from <= number) {
                return (*target, By::Range(*from, *to));
            }
        }
        let slot = slot(key, self.hash, u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let (first, last, target) = self.assign[self.slots[slot.number as usize] as usize];
        (target, By::Slot(slot, first, last))
    }
}

/// The slot of a key among `slots`, which is at least 1.
pub fn slot(key: &[u8], hash: Hash, slots: u32) -> Slot {
    let by_crc = |fell_back| Slot { number: crc32fast::hash(key) % slots, fell_back };
    match hash {
        Hash::Crc32 => by_crc(false),
        Hash::Mod => match remainder(key, slots) {
            Some(number) => Slot { number, fell_back: false },
            None => by_crc(true),
        },
    }
}

/// Sign and digits of a decimal integer.
fn integer(key: &[u8]) -> Option<(bool, &[u8])> {
    let (negative, digits) = match key {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    (!digits.is_empty() && digits.iter().all(u8::is_ascii_digit)).then_some((negative, digits))
}

/// The Euclidean remainder of a decimal integer of any length.
fn remainder(key: &[u8], modulus: u32) -> Option<u32> {
    let (negative, digits) = integer(key)?;
    let modulus = u64::from(modulus);
    let rest = digits.iter().fold(0, |rest: u64, digit| (rest * 10 + u64::from(digit - b'0')) % modulus);
    let rest = if negative && rest > 0 { modulus - rest } else { rest };
    u32::try_from(rest).ok()
}

/// A decimal integer that fits 64 bits.
fn small_integer(key: &[u8]) -> Option<i64> {
    integer(key)?;
    std::str::from_utf8(key).ok()?.parse().ok()
}

fn position(sorted: &[(Box<[u8]>, Target)], key: &[u8]) -> Option<usize> {
    sorted.binary_search_by(|(known, _)| known.as_ref().cmp(key)).ok()
}

#[cfg(test)]
mod tests;
