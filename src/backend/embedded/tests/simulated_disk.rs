//! A disk in memory that remembers what was synced, tears what was not, and gets full.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};

use redb::StorageBackend;
use tokio::sync::Notify;

use super::super::disk::Disk;
use crate::backend::inbox::lock;

/// What a disk writes as a whole, also when the power goes.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone)]
pub enum Step {
    Write { offset: u64, data: Vec<u8> },
    Length(u64),
    Sync,
}

#[derive(Debug, Default)]
struct State {
    /// What a read sees.
    image: Vec<u8>,
    /// What the file was before the first step.
    first: Vec<u8>,
    steps: Vec<Step>,
    is_full: bool,
    /// How many steps succeed before one fails, once, and whether that one is carried out all the same.
    failing: Option<(usize, bool)>,
    /// How many reads fail.
    failing_reads: usize,
    /// The next sync says that it waits, and waits until its `Held` is dropped.
    hold: Option<(Arc<Notify>, mpsc::Receiver<()>)>,
    free: u64,
}

/// A sync that is held up, or will be, as long as this lives.
pub struct Held {
    reached: Arc<Notify>,
    _release: mpsc::Sender<()>,
}

impl Held {
    /// Waits until there is one.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }
}

/// Clones are one disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

fn apply(image: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Write { offset, data } => {
            let at = *offset as usize;
            if image.len() < at + data.len() {
                image.resize(at + data.len(), 0);
            }
            image[at..at + data.len()].copy_from_slice(data);
        }
        Step::Length(length) => image.resize(*length as usize, 0),
        Step::Sync => {}
    }
}

impl SimulatedDisk {
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::of(Vec::new())
    }

    fn of(image: Vec<u8>) -> SimulatedDisk {
        let state = State { first: image.clone(), image, free: u64::MAX, ..State::default() };
        SimulatedDisk(Arc::new(Mutex::new(state)))
    }

    /// How many steps there were.
    pub fn steps(&self) -> usize {
        lock(&self.0).steps.len()
    }

    /// Every write fails, whatever is said to be free.
    pub fn set_full(&self, is_full: bool) {
        lock(&self.0).is_full = is_full;
    }

    /// After so many further steps one fails, once. `lands`: what it was to do is done all the same.
    pub fn fail_after(&self, steps: usize, lands: bool) {
        lock(&self.0).failing = Some((steps, lands));
    }

    /// So many reads fail.
    pub fn fail_reads(&self, count: usize) {
        lock(&self.0).failing_reads = count;
    }

    /// Holds up the next sync.
    pub fn hold_next_sync(&self) -> Held {
        let (release, released) = mpsc::channel();
        let reached = Arc::new(Notify::new());
        lock(&self.0).hold = Some((Arc::clone(&reached), released));
        Held { reached, _release: release }
    }

    fn wait_if_held(&self) {
        let hold = lock(&self.0).hold.take();
        if let Some((reached, released)) = hold {
            reached.notify_one();
            // Nothing is sent: it ends when the other side is dropped.
            assert!(released.recv().is_err());
        }
    }

    /// So many bytes are said to be free.
    pub fn set_free(&self, free: u64) {
        lock(&self.0).free = free;
    }

    /// The disk as it is now, after the power went: of what was not synced each sector is there if `survives` says so.
    pub fn cut(&self, survives: impl FnMut(usize) -> bool) -> SimulatedDisk {
        let steps = self.steps();
        self.cut_at(steps, survives)
    }

    /// The same, but the power went after so many steps.
    pub fn cut_at(&self, count: usize, mut survives: impl FnMut(usize) -> bool) -> SimulatedDisk {
        let state = lock(&self.0);
        let steps = &state.steps[..count];
        let synced = steps.iter().rposition(|step| matches!(step, Step::Sync)).map_or(0, |at| at + 1);
        let mut image = state.first.clone();
        steps[..synced].iter().for_each(|step| apply(&mut image, step));
        for step in &steps[synced..] {
            match step {
                Step::Write { offset, data } => {
                    for (sector, data) in data.chunks(SECTOR_BYTES).enumerate() {
                        if survives(data.len()) {
                            let offset = offset + (sector * SECTOR_BYTES) as u64;
                            apply(&mut image, &Step::Write { offset, data: data.to_vec() });
                        }
                    }
                }
                // A file that shrank before what stood there was given up is more than a disk does.
                Step::Length(length) if (*length as usize) < image.len() => {}
                step => apply(&mut image, step),
            }
        }
        SimulatedDisk::of(image)
    }
}

impl Disk for SimulatedDisk {
    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        Ok(Box::new(self.clone()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.0).free)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(lock(&self.0).image.len() as u64)
    }

    fn path(&self) -> &Path {
        Path::new("/simulated/store.redb")
    }
}

impl SimulatedDisk {
    fn step(&self, step: Step) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.is_full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let failed = state.failing.filter(|(left, _)| *left == 0);
        state.failing = state.failing.and_then(|(left, lands)| Some((left.checked_sub(1)?, lands)));
        if failed.is_none_or(|(_, lands)| lands) {
            apply(&mut state.image, &step);
            state.steps.push(step);
        }
        match failed {
            Some(_) => Err(io::Error::other("this step fails on purpose")),
            None => Ok(()),
        }
    }
}

impl StorageBackend for SimulatedDisk {
    fn len(&self) -> io::Result<u64> {
        self.file_bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = lock(&self.0);
        if state.failing_reads > 0 {
            state.failing_reads -= 1;
            return Err(io::Error::other("this read fails on purpose"));
        }
        let from = offset as usize;
        let bytes = state.image.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(Step::Length(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.wait_if_held();
        self.step(Step::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(Step::Write { offset, data: data.to_vec() })
    }
}
