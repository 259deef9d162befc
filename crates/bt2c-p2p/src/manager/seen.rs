//! What was relayed, and who has it: bounded, oldest forgotten first.

use std::{collections::BTreeSet, num::NonZeroUsize};

use lru::LruCache;

use super::ingress::Inventory;
use crate::peer::ConnectionId;

/// Objects remembered: an hour of transactions at four a second, about 2 MiB with a few sources each.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(16_384).expect("16384 is not 0");

/// Who is known to have what. Whether an object is *valid* is not asked here: it is entered once someone who knows says
/// so, never on receipt, so that a forged copy cannot keep the real one from being relayed.
#[derive(Debug)]
pub(crate) struct Seen {
    objects: LruCache<Inventory, Entry>,
}

#[derive(Debug, Default)]
struct Entry {
    holders: BTreeSet<ConnectionId>,
    relayed: bool,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self { objects: LruCache::new(CAPACITY) }
    }

    /// A peer has the object.
    pub(crate) fn note(&mut self, inventory: Inventory, holder: ConnectionId) {
        self.objects.get_or_insert_mut(inventory, Entry::default).holders.insert(holder);
    }

    /// Marks the object as relayed to all of `to` that do not have it, and returns those; none the second time.
    pub(crate) fn relay(
        &mut self,
        inventory: Inventory,
        to: impl Iterator<Item = ConnectionId>,
    ) -> Vec<ConnectionId> {
        let entry = self.objects.get_or_insert_mut(inventory, Entry::default);
        if std::mem::replace(&mut entry.relayed, true) {
            return Vec::new();
        }
        to.filter(|connection| entry.holders.insert(*connection)).collect()
    }
}

#[cfg(test)]
mod tests {
    use bt2c_proto::TxHash;

    use super::*;

    #[test]
    fn an_object_goes_once_to_all_but_those_who_have_it() {
        let mut seen = Seen::new();
        let object = Inventory::Transaction(TxHash::from_bytes([1; 32]));
        let all = || (1..=3).map(ConnectionId);
        seen.note(object, ConnectionId(2));
        assert_eq!(seen.relay(object, all()), [ConnectionId(1), ConnectionId(3)]);
        assert!(seen.relay(object, all()).is_empty());
    }
}
