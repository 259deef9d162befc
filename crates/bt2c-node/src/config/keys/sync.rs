//! Keys of the chain.

use std::time::Duration;

use bt2c_sync::Checkpoint;

use super::{Section, key};

pub(crate) const CHAIN: Section = Section {
    title: "Chain",
    keys: &[
        key!(checkpoints, checkpoints: Vec<Checkpoint>, "HEIGHT:HASH",
            "Blocks that you know to be of the right chain. No other block of such a height is taken, and up to the highest \
             one the signatures of transactions are not checked, which makes a first sync faster; everything else is. A wrong \
             one keeps the node from the chain, and from starting on one that it contradicts."),
        key!(max_reorg_depth, sync.max_reorg_depth: u64, "blocks",
            "Branches that leave the main chain more than this below its tip are not followed. Lower settles blocks sooner \
             but cannot heal a long split; all nodes of a network should have the same."),
        key!(window_blocks, sync.window_blocks: u64, "blocks",
            "Blocks that may be fetched ahead of the one to be stored next. Too few leave peers idle that serve a limited \
             number of requests, too many are thrown away when a peer lies."),
        key!(window_bytes, sync.window_bytes: usize, "bytes",
            "Bytes of such blocks. Too few leave peers idle, more takes memory."),
        key!(request_timeout, sync.request_timeout: Duration, "duration",
            "How long nothing may come of an answer with blocks before what it owes is asked of others. Doubled each time, \
             less as blocks come. Too short asks twice over slow links, too long lets one slow peer hold up the rest."),
        key!(request_timeout_max, sync.request_timeout_max: Duration, "duration",
            "The longest that request_timeout becomes. Too short asks twice over a line that is slow itself, too long waits \
             for peers that are gone."),
        key!(close_timeout, sync.close_timeout: Duration, "duration",
            "How long nothing may come of such an answer before the connection is closed. Too short loses slow peers, too long keeps \
             dead ones."),
        key!(peer_requests_per_minute, sync.requests_per_minute: u64, "requests a minute",
            "What a peer that does not say is taken to serve; a third of it is used. Higher gets us delayed or banned there, \
             lower syncs slowly from base peers."),
        key!(max_orphans, sync.max_orphans: usize, "blocks",
            "Blocks whose parent is missing that are kept. Too few fetch them again, more takes memory for what may be worth \
             nothing."),
        key!(max_orphan_bytes, sync.max_orphan_bytes: usize, "bytes",
            "Bytes of such blocks. Below 1 MB a full block is not kept."),
        key!(max_pushed_blocks, sync.max_pushed_blocks: usize, "blocks",
            "Blocks that were pushed to us and are being checked. Too few drop blocks that then have to be fetched, more \
             takes memory."),
        key!(max_pushed_bytes, sync.max_pushed_bytes: usize, "bytes",
            "Bytes of such blocks. Below 1 MB a full block is dropped."),
        key!(max_pushed_transactions, sync.max_pushed_transactions: usize, "transactions",
            "Transactions that are being checked. Too few drop them in a rush, more lets signature checks queue up."),
        key!(batch_blocks, sync.batch_blocks: usize, "blocks",
            "Most blocks stored at once. One fsync a batch: more is faster, and more to do again after a crash."),
        key!(batch_bytes, sync.batch_bytes: usize, "bytes",
            "Bytes of such blocks. Below 1 MB each block is a batch, more takes memory."),
        key!(store_retry, sync.store_retry: Duration, "duration",
            "How long to wait before a failed store (a full disk) is tried again. Shorter fills the log, longer resumes \
             late."),
        key!(prune_bytes, prune_bytes: u64, "bytes",
            "Stored blocks above which the oldest are removed, `segment_bytes` at a time; 0 keeps all, and the least other value \
             is twice `segment_bytes`. Blocks that a reorganisation could need stay. Lower leaves newcomers fewer nodes to \
             sync from, and what is removed can only be had again from others."),
        key!(segment_bytes, segment_bytes: u64, "bytes",
            "Size at which a file of blocks is full and the next begins; at least 65536. Smaller ones are more files, larger \
             ones are coarser to remove."),
        key!(progress_interval, sync.progress_interval: Duration, "duration",
            "How often progress is told while blocks are fetched. Shorter floods event streams, longer looks stuck."),
        key!(pool_transactions, sync.pool.max_count: usize, "transactions",
            "Transactions that wait for a block. Too few drop what could be paid for, too many cost a kilobyte each."),
        key!(pool_bytes, sync.pool.max_bytes: usize, "bytes",
            "Bytes of such transactions. Below 1 MB no full block can be built, more takes memory."),
        key!(pool_max_ahead, sync.pool.max_ahead: Duration, "duration",
            "How far ahead of our clock a transaction may be dated. Shorter refuses honest senders whose clock is fast, \
             longer keeps what no block may have yet."),
    ],
};
