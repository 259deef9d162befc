//! redb on the disk seam.

use std::{io, sync::Arc};

use bt2c_p2p::env::DiskFile;
use redb::StorageBackend;

/// A file of the [`Disk`](bt2c_p2p::env::Disk) seam as redb sees it. The store's directory lock keeps others out, so it
/// offers no locks of its own.
#[derive(Debug)]
pub(super) struct Backend(pub(super) Arc<dyn DiskFile>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
