//! Which seat an address takes: keyed hashing, so that nobody outside can aim at a seat.
//!
//! The scheme is that of Bitcoin Core's address manager: the addresses that one source group names share 64 buckets of
//! the new table, and those of one address group share 8 buckets of the tried table. So whoever controls few networks
//! can fill only a small part of either.

use std::{
    hash::Hasher,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
};

use siphasher::sip::SipHasher24;

use crate::reach::{Group, addr_bytes};

/// The secret of one book. It is kept with the peers file, so that addresses find their seats again after a restart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BucketKey(pub(crate) [u64; 2]);

impl BucketKey {
    /// The seat of an address that one source named.
    pub(crate) fn new_seat(self, buckets: NonZeroU16, addr: SocketAddr, source: IpAddr) -> u32 {
        let (group, source) = (Group::of(addr).to_bytes(), Group::of_ip(source).to_bytes());
        let share = self.hash(0, &[&group, &source]) % NEW_BUCKETS_PER_SOURCE;
        let bucket = self.hash(1, &[&source, &share.to_be_bytes()]) % u64::from(buckets.get());
        self.seat(2, bucket, addr)
    }

    /// The seat of an address that answered a dial.
    pub(crate) fn tried_seat(self, buckets: NonZeroU16, addr: SocketAddr) -> u32 {
        let share = self.hash(3, &[&addr_bytes(addr)]) % TRIED_BUCKETS_PER_GROUP;
        let bucket =
            self.hash(4, &[&Group::of(addr).to_bytes(), &share.to_be_bytes()]) % u64::from(buckets.get());
        self.seat(5, bucket, addr)
    }

    fn seat(self, tag: u8, bucket: u64, addr: SocketAddr) -> u32 {
        let place = self.hash(tag, &[&bucket.to_be_bytes(), &addr_bytes(addr)]) % BUCKET_SIZE;
        u32::try_from(bucket * BUCKET_SIZE + place).expect("at most 65535 buckets of 64 fit 32 bits")
    }

    fn hash(self, tag: u8, parts: &[&[u8]]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0[0], self.0[1]);
        hasher.write(&[tag]);
        for part in parts {
            hasher.write(&[u8::try_from(part.len()).expect("an address has fewer than 256 bytes")]);
            hasher.write(part);
        }
        hasher.finish()
    }
}

/// Seats in a bucket.
pub(crate) const BUCKET_SIZE: u64 = 64;

const NEW_BUCKETS_PER_SOURCE: u64 = 64;

const TRIED_BUCKETS_PER_GROUP: u64 = 8;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const KEY: BucketKey = BucketKey([1, 2]);
    const BUCKETS: NonZeroU16 = NonZeroU16::new(1024).unwrap();

    fn buckets(seats: impl Iterator<Item = u32>) -> usize {
        seats.map(|seat| seat / 64).collect::<BTreeSet<_>>().len()
    }

    #[test]
    fn one_source_group_reaches_at_most_64_new_buckets() {
        let addr = |n: u32| SocketAddr::from(((0x0800_0000 + n * 0x1_0000).to_be_bytes(), 8338));
        let source = "9.9.1.1".parse().unwrap();
        let neighbour = "9.9.200.7".parse().unwrap();
        let both = (0..2000).flat_map(|n| [(n, source), (n, neighbour)]);
        let reached = buckets(both.map(|(n, source)| KEY.new_seat(BUCKETS, addr(n), source)));
        assert!((32..=64).contains(&reached), "{reached}");
    }

    #[test]
    fn one_address_group_reaches_at_most_8_tried_buckets() {
        let addr = |n: u16| SocketAddr::from(([8, 8, n.to_be_bytes()[0], n.to_be_bytes()[1]], 8338));
        assert!(buckets((0..5000).map(|n| KEY.tried_seat(BUCKETS, addr(n)))) <= 8);
    }

    #[test]
    fn seats_depend_on_the_key() {
        let addr: SocketAddr = "8.8.8.8:8338".parse().unwrap();
        let seats: BTreeSet<_> = (0..32).map(|key| BucketKey([key, 0]).tried_seat(BUCKETS, addr)).collect();
        assert!(seats.len() > 24, "{seats:?}");
    }
}
