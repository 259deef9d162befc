//! The Merkle tree over a block's transactions.

use crate::{
    hash::{Hasher, MerkleRoot},
    transaction::Transaction,
};

/// Root over the transactions in order: leaves `H(0x00 ‖ tx hash ‖ lp(key) ‖ lp(signature))`, nodes
/// `H(0x01 ‖ left ‖ right)`, an odd node promoted, not doubled; `H("")` for none.
///
/// The tags keep a node from passing for a leaf; promotion keeps two different lists from sharing a root.
pub fn merkle_root(transactions: &[Transaction]) -> MerkleRoot {
    let leaves = transactions.iter().map(Transaction::merkle_leaf).collect();
    MerkleRoot::from_bytes(root_of(leaves))
}

fn root_of(mut level: Vec<[u8; 32]>) -> [u8; 32] {
    if level.is_empty() {
        return Hasher::default().finish();
    }
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Hasher::default().raw(&[0x01]).raw(left).raw(right).finish(),
                single => single[0],
            })
            .collect();
    }
    level[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(left: [u8; 32], right: [u8; 32]) -> [u8; 32] {
        Hasher::default().raw(&[0x01]).raw(&left).raw(&right).finish()
    }

    #[test]
    fn one_leaf_is_its_own_root_and_an_odd_one_is_promoted() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]];
        assert_eq!(root_of(vec![a]), a);
        assert_eq!(root_of(vec![a, b]), node(a, b));
        assert_eq!(root_of(vec![a, b, c]), node(node(a, b), c));
        assert_ne!(root_of(vec![a, b, c]), root_of(vec![a, b, c, c]));
    }

    #[test]
    fn no_transactions_hash_the_empty_string() {
        let expected = "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a";
        assert_eq!(merkle_root(&[]).to_string(), expected);
    }
}
