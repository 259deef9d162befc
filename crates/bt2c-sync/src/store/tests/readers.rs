//! One writer, many readers.

use std::{
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use super::*;

/// Longest wait for a thread; only a failing test waits as long.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Read,
    Sync,
}

/// Where one call waits until it may go on.
#[derive(Debug, Default)]
struct Gate(Mutex<Option<Closed>>);

/// For which call it is closed, how that tells that it waits, and what it waits for.
type Closed = (Call, SyncSender<()>, Receiver<()>);

impl Gate {
    /// The next such call waits. What is returned tells when it does, and lets it go on.
    fn close(&self, call: Call) -> (Receiver<()>, SyncSender<()>) {
        let ((arrive, arrived), (open, opened)) = (sync_channel(1), sync_channel(1));
        *self.0.lock() = Some((call, arrive, opened));
        (arrived, open)
    }

    fn pass(&self, call: Call) {
        let waiting = self.0.lock().take_if(|(which, ..)| *which == call);
        if let Some((_, arrive, opened)) = waiting {
            arrive.send(()).unwrap();
            opened.recv().unwrap();
        }
    }
}

/// A disk of which a segment's calls may have to wait.
#[derive(Debug)]
struct GatedDisk {
    disk: MemoryDisk,
    gate: Arc<Gate>,
}

impl Disk for GatedDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn write_atomic(&self, path: &Path, bytes: &[u8], private: bool) -> io::Result<()> {
        self.disk.write_atomic(path, bytes, private)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path)?;
        let segment = path.extension().is_some_and(|extension| extension == "seg");
        Ok(if segment { Arc::new(GatedFile { file, gate: Arc::clone(&self.gate) }) } else { file })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for GatedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.gate.pass(Call::Read);
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.gate.pass(Call::Sync);
        self.file.sync()
    }
}

/// A store with ten blocks, the gate to its segments, and ten blocks more with one that is asked for.
fn gated() -> (Arc<DiskStore>, Arc<Gate>, Vec<Block>) {
    let gate = Arc::new(Gate::default());
    let disk = GatedDisk { disk: MemoryDisk::new(), gate: Arc::clone(&gate) };
    let store = open(Arc::new(disk)).unwrap();
    let row = TestConsensus::new().row(&store.tip(), 20, 0);
    store.append(&checked(&row[..10]), row[9].hash()).unwrap();
    (Arc::new(store), gate, row)
}

/// Everything that can be asked.
fn look(store: &DiskStore, known: &BlockHash) -> (BlockRef, usize) {
    assert!(store.body(known).unwrap().is_some());
    let place = store.block(known).unwrap().unwrap();
    assert_eq!(store.main(place.height).unwrap(), Some(place));
    let key = TxKey { timestamp: 0, hash: bt2c_proto::TxHash::from_bytes([0; 32]) };
    assert!(store.blocks_with(&key).unwrap().is_empty());
    (store.tip(), store.bodies(heights(0..=1000), usize::MAX).unwrap().len())
}

/// Runs on another thread, and fails if that takes as long as the deadline.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = sync_channel(1);
    thread::spawn(move || done.send(work()));
    result.recv_timeout(DEADLINE).expect("it does not wait for the other side")
}

#[test]
fn readers_do_not_wait_for_a_writer_whose_disk_is_slow() {
    let (store, gate, row) = gated();
    let (arrived, open) = gate.close(Call::Sync);
    let writer = Arc::clone(&store);
    let (batch, tip, known) = (checked(&row[10..]), row[19].hash(), row[4].hash());
    let writing = thread::spawn(move || writer.append(&batch, tip));
    arrived.recv_timeout(DEADLINE).unwrap();
    let reader = Arc::clone(&store);
    let (seen, count) = in_time(move || look(&reader, &known));
    assert_eq!((seen.height.get(), count), (10, 11), "nothing of the batch is seen before all of it");
    open.send(()).unwrap();
    writing.join().unwrap().unwrap();
    assert_eq!(look(&store, &known), (BlockRef::from(&row[19].header), 21));
}

#[test]
fn a_writer_does_not_wait_for_a_reader_whose_disk_is_slow() {
    let (store, gate, row) = gated();
    let (arrived, open) = gate.close(Call::Read);
    let reader = Arc::clone(&store);
    let reading = thread::spawn(move || reader.bodies(heights(0..=1000), usize::MAX));
    arrived.recv_timeout(DEADLINE).unwrap();
    let writer = Arc::clone(&store);
    let (batch, tip) = (checked(&row[10..]), row[19].hash());
    in_time(move || writer.append(&batch, tip)).unwrap();
    assert_eq!(store.tip().height.get(), 20);
    open.send(()).unwrap();
    assert_eq!(reading.join().unwrap().unwrap().len(), 11, "the state that it began with");
}

#[test]
fn readers_see_one_state_while_a_writer_appends() {
    let dir = tempfile::tempdir().unwrap();
    let test = TestConsensus::new();
    let disk: Arc<dyn Disk> = Arc::new(bt2c_p2p::env::RealDisk);
    let store = DiskStore::open(disk, dir.path(), test.genesis_block(), config()).unwrap();
    let row = test.row(&store.tip(), 60, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for blocks in row.chunks(3) {
                store.append(&checked(blocks), blocks[blocks.len() - 1].hash()).unwrap();
            }
        });
        while store.tip().height.get() < 60 {
            let tip = store.tip();
            let bodies = store.bodies(heights(0..=tip.height.get()), usize::MAX).unwrap();
            assert_eq!(bodies.len() as u64, tip.height.get() + 1);
        }
    });
}
