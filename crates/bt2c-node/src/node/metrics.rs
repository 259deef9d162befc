//! The node's metrics: one registry a node, filled by its parts and by what is measured when someone asks.

use bt2c_p2p::Metrics as P2PMetrics;
use bt2c_sync::SyncMetrics;
use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

/// The registry, and the gauges that are set when someone asks.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Mutex<Registry>,
    uptime: Gauge,
    memory: Gauge,
}

impl Metrics {
    pub(super) fn new(p2p: &P2PMetrics, sync: &SyncMetrics) -> Self {
        let mut registry = Registry::default();
        let (uptime, memory) = (Gauge::default(), Gauge::default());
        let node = registry.sub_registry_with_prefix("bt2c_node");
        node.register("build", "The software's version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        node.register_with_unit("uptime", "Time since the node started", Unit::Seconds, uptime.clone());
        let help = "Resident memory of the process; nodes of one process show the same";
        registry.register_with_unit("process_resident_memory", help, Unit::Bytes, memory.clone());
        p2p.register(&mut registry);
        sync.register(&mut registry);
        Self { registry: Mutex::new(registry), uptime, memory }
    }

    /// OpenMetrics text.
    pub(super) fn text(&self, uptime_s: u64) -> String {
        self.uptime.set(signed(uptime_s));
        if let Some(bytes) = resident_memory() {
            self.memory.set(signed(bytes));
        }
        let mut text = String::new();
        encode(&mut text, &self.registry.lock()).expect("writing to a string does not fail");
        text
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Resident memory in bytes, where the system tells it; from `VmRSS`, which needs no page size.
fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_tells_of_the_node_its_peers_and_its_chain() {
        let text = Metrics::new(&P2PMetrics::default(), &SyncMetrics::default()).text(7);
        assert!(text.lines().any(|line| line == "bt2c_node_uptime_seconds 7"), "{text}");
        for name in
            ["bt2c_node_build_info", "process_resident_memory_bytes", "bt2c_p2p_bans", "bt2c_sync_height"]
        {
            assert!(text.contains(name), "{name} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
