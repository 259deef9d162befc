//! What is left of a pruned segment: what the index knew of its blocks, so that a lost index can be made anew.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `bt2cprn1` |
//! | 96 | a block's entry, as in the index |
//! | 4 | how many of its transactions could still be repeated when it was pruned, big-endian |
//! | 40 each | date of such a transaction, big-endian, and its hash |
//! | | … and so on, the blocks of the main chain in ascending order |
//! | 4 | CRC-32 of all of that, big-endian |
//!
//! Blocks beside the main chain are not in it: they lie too deep to matter.

use bt2c_proto::TxHash;
use bytes::Bytes;

use super::blocks::{ENTRY_LEN, Entry};
use crate::chain::{CheckedBlock, TxKey};

const MAGIC: &[u8; 8] = b"bt2cprn1";
const TX_LEN: usize = 40;

/// A block that was in the segment, and those of its transactions that matter.
pub(super) type Remnant = (Entry, Vec<TxKey>);

pub(super) fn write(blocks: &[Remnant]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    for (entry, transactions) in blocks {
        bytes.extend(entry.write());
        bytes.extend(u32::try_from(transactions.len()).expect("a block has few").to_be_bytes());
        for key in transactions {
            bytes.extend(key.timestamp.to_be_bytes());
            bytes.extend(key.hash.as_bytes());
        }
    }
    let sum = crc32fast::hash(&bytes);
    bytes.extend(sum.to_be_bytes());
    bytes
}

/// Reads what [`write`] wrote, or nothing if it is not that.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<Remnant>> {
    let (bytes, sum) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(bytes) != u32::from_be_bytes(*sum) {
        return None;
    }
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let entry = rest.split_off(..ENTRY_LEN)?;
        let count = u32::from_be_bytes(rest.split_off(..4)?.try_into().ok()?);
        let keys = rest.split_off(..TX_LEN.checked_mul(usize::try_from(count).ok()?)?)?;
        let keys = keys.chunks_exact(TX_LEN).map(|key| {
            let (timestamp, hash) = key.split_first_chunk::<8>()?;
            let hash = TxHash::from_bytes(hash.try_into().ok()?);
            Some(TxKey { timestamp: u64::from_be_bytes(*timestamp), hash })
        });
        blocks.push((Entry::read(entry.try_into().ok()?), keys.collect::<Option<_>>()?));
    }
    Some(blocks)
}

/// The block as the index takes it.
pub(super) fn without_body((entry, transactions): &Remnant) -> CheckedBlock {
    CheckedBlock { place: entry.place, transactions: transactions.as_slice().into(), bytes: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use bt2c_proto::{BlockHash, Height};

    use super::*;
    use crate::{chain::BlockRef, store::disk::segments::Location};

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let block = |number: u8, transactions: u8| {
            let (hash, parent) = (BlockHash::from_bytes([number; 32]), BlockHash::from_bytes([9; 32]));
            let place = BlockRef { hash, parent, height: Height::new(number.into()), timestamp: 77 };
            let location = Location { segment: 3, offset: 1 << 40, len: 700 };
            let key = |index| TxKey { timestamp: index, hash: TxHash::from_bytes([number; 32]) };
            (Entry { place, location }, (0..transactions.into()).map(key).collect::<Vec<_>>())
        };
        let blocks = vec![block(1, 0), block(2, 3), block(3, 1)];
        let bytes = write(&blocks);
        assert_eq!(read(&bytes), Some(blocks));
        assert_eq!(read(&write(&[])), Some(Vec::new()));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(read(&damaged), None, "byte {at}");
            assert_eq!(read(&bytes[..at]), None, "cut at {at}");
        }
    }
}
