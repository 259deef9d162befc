//! What was relayed, and who has it: bounded, oldest forgotten first.

use std::{collections::BTreeSet, num::NonZeroUsize};

use lru::LruCache;

use super::ingress::Inventory;
use crate::peer::ConnectionId;

/// Objects remembered: an hour of transactions at four a second, about 2 MiB.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(16_384).expect("16384 is not 0");

/// Who is known to have what. Whether an object is *valid* is not asked here: it is entered once someone who knows says
/// so, never on receipt, so that a forged copy cannot keep the real one from being relayed.
#[derive(Debug)]
pub(crate) struct Seen {
    objects: LruCache<Inventory, Entry>,
}

/// Who has an object, until it is relayed: then it is over, and nobody needs to be remembered.
#[derive(Debug)]
enum Entry {
    Waiting(BTreeSet<ConnectionId>),
    Relayed,
}

impl Default for Entry {
    fn default() -> Self {
        Self::Waiting(BTreeSet::new())
    }
}

/// Connections remembered for one object. Peers that come and go could make it any number; one that is forgotten is sent
/// what it has.
const MAX_HOLDERS: usize = 256;

impl Seen {
    pub(crate) fn new() -> Self {
        Self { objects: LruCache::new(CAPACITY) }
    }

    /// A peer has the object.
    pub(crate) fn note(&mut self, inventory: Inventory, holder: ConnectionId) {
        if let Entry::Waiting(holders) = self.objects.get_or_insert_mut(inventory, Entry::default)
            && holders.len() < MAX_HOLDERS
        {
            holders.insert(holder);
        }
    }

    /// Marks the object as relayed to all of `to` that do not have it, and returns those; none the second time.
    pub(crate) fn relay(
        &mut self,
        inventory: Inventory,
        to: impl Iterator<Item = ConnectionId>,
    ) -> Vec<ConnectionId> {
        let entry = self.objects.get_or_insert_mut(inventory, Entry::default);
        match std::mem::replace(entry, Entry::Relayed) {
            Entry::Waiting(holders) => to.filter(|connection| !holders.contains(connection)).collect(),
            Entry::Relayed => Vec::new(),
        }
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
        seen.note(object, ConnectionId(4));
        assert!(matches!(seen.objects.peek(&object), Some(Entry::Relayed)));
    }

    #[test]
    fn those_who_have_an_object_are_bounded() {
        let mut seen = Seen::new();
        let object = Inventory::Transaction(TxHash::from_bytes([1; 32]));
        (0..10_000).for_each(|id| seen.note(object, ConnectionId(id)));
        let Some(Entry::Waiting(holders)) = seen.objects.peek(&object) else { panic!("it is not relayed") };
        assert_eq!(holders.len(), MAX_HOLDERS);
    }
}
