//! The power goes at any step of the disk; what was acknowledged is there.

use std::sync::Arc;

use super::super::disk::Disk;
use super::super::plan::{NewRow, Planner};
use super::super::store::Store;
use super::super::wire::RowBuilder;
use super::SimulatedDisk;

/// Groups that are committed.
const GROUPS: usize = 25;
/// Cuts of the power for each history.
const CUTS: usize = 60;
const HISTORIES: u64 = 4;

/// The records of each partition: the number of the group, which is the value of each of its records.
type Content = Vec<Vec<(i64, usize)>>;

fn content(disk: &SimulatedDisk) -> Content {
    let (store, meta) = Store::open(Box::new(disk.clone())).unwrap();
    let Some(topic) = meta.topics.get("topic") else { return vec![Vec::new(); 2] };
    let read = |partition: usize| {
        let mut found = Vec::new();
        for row in store.rows(topic.id, partition as i32, 0, i64::MAX, usize::MAX).unwrap() {
            let mut records = row.records();
            while let Some(record) = records.next().unwrap() {
                let group = String::from_utf8(record.value.unwrap()[..8].to_vec()).unwrap();
                found.push((record.offset, group.trim().parse().unwrap()));
            }
        }
        assert_eq!(topic.partitions[partition].end, found.last().map_or(0, |(offset, _)| offset + 1));
        found
    };
    (0..2).map(read).collect()
}

/// A row of a few records, some of them large.
fn row(random: &mut fastrand::Rng, partition: i32, group: usize) -> NewRow {
    let mut records = RowBuilder::default();
    for _ in 0..random.usize(1..20) {
        let size = if random.bool() { random.usize(8..200) } else { random.usize(8..20_000) };
        let value = format!("{group:<size$}");
        records.push(records.count(), 0, None, Some(value.as_bytes()), &[]);
    }
    NewRow { topic: Arc::from("topic"), partition, keyless: true, records }
}

#[test]
fn what_was_acknowledged_survives_a_cut_of_the_power_at_any_step() {
    for seed in 0..HISTORIES {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = SimulatedDisk::new();
        let (store, meta) = Store::open(Box::new(disk.clone())).unwrap();
        let mut planner = Planner::new(meta);
        let (reply, _answer) = tokio::sync::oneshot::channel();
        let (name, config) = ("topic".to_owned(), std::collections::BTreeMap::new());
        drop(planner.plan(super::super::plan::Command::CreateTopic { name, partitions: 2, config, reply }, Ok(())));
        // After so many steps of the disk, so many records of each partition were acknowledged.
        let mut acknowledged = vec![(0, [0, 0])];
        let mut sent: Content = vec![Vec::new(); 2];
        for group in 0..GROUPS {
            for partition in 0..2 {
                let row = row(&mut random, partition, group);
                let count = i64::from(row.records.count());
                let base = planner.append(row).unwrap();
                sent[partition as usize].extend((base..base + count).map(|offset| (offset, group)));
            }
            let effects = std::mem::take(&mut planner.effects);
            store.commit(&effects, &planner.meta).unwrap();
            acknowledged.push((disk.steps(), [sent[0].len(), sent[1].len()]));
        }
        for _ in 0..CUTS {
            let at = random.usize(acknowledged[1].0..=disk.steps());
            let chance = random.f64();
            let cut = disk.cut_at(at, |_| random.f64() < chance);
            let (_, least) = acknowledged.iter().rev().find(|(steps, _)| *steps <= at).unwrap();
            let found = content(&cut);
            for partition in 0..2 {
                let found = &found[partition];
                assert!(
                    found.len() >= least[partition],
                    "seed {seed}, cut at step {at}: acknowledged records are lost"
                );
                assert_eq!(found[..], sent[partition][..found.len()], "seed {seed}, cut at step {at}");
            }
        }
    }
}

#[test]
fn a_damaged_file_is_an_error_that_names_it() {
    let disk = SimulatedDisk::new();
    drop(Store::open(Box::new(disk.clone())).unwrap());
    disk_write(&disk, 0, &[0xAA; 4096]);
    let error = Store::open(Box::new(disk.clone())).unwrap_err().to_string();
    assert!(error.contains("/simulated/store.redb"), "{error}");
}

fn disk_write(disk: &SimulatedDisk, offset: u64, data: &[u8]) {
    disk.open().unwrap().write(offset, data).unwrap();
}
