//! Where hosts are, and how long light and routers take between there.

use std::time::Duration;

/// A part of the world that a host is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// Virginia, New York, Toronto.
    NorthAmericaEast,
    /// California, Oregon, Vancouver.
    NorthAmericaWest,
    /// Frankfurt, London, Paris.
    Europe,
    /// São Paulo, Buenos Aires.
    SouthAmerica,
    /// Tokyo, Seoul.
    EastAsia,
    /// Singapore, Jakarta.
    SoutheastAsia,
    /// Sydney, Auckland.
    Oceania,
}

impl Region {
    /// All regions.
    pub const ALL: [Self; 7] = [
        Self::NorthAmericaEast,
        Self::NorthAmericaWest,
        Self::Europe,
        Self::SouthAmerica,
        Self::EastAsia,
        Self::SoutheastAsia,
        Self::Oceania,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NorthAmericaEast => "North America (east)",
            Self::NorthAmericaWest => "North America (west)",
            Self::Europe => "Europe",
            Self::SouthAmerica => "South America",
            Self::EastAsia => "East Asia",
            Self::SoutheastAsia => "Southeast Asia",
            Self::Oceania => "Oceania",
        }
    }

    /// One way between a host here and one there, without jitter. The same in both directions.
    pub const fn latency(self, other: Self) -> Duration {
        Duration::from_millis(ONE_WAY_MS[self as usize][other as usize])
    }
}

/// Half of the round trips that are common between large data centres of these regions, in milliseconds; inside a
/// region, of those between its cities. Rounded: a model, not a measurement.
const ONE_WAY_MS: [[u64; 7]; 7] = [
    [8, 31, 40, 58, 78, 110, 100],
    [31, 8, 70, 88, 52, 85, 70],
    [40, 70, 10, 95, 110, 80, 125],
    [58, 88, 95, 15, 130, 160, 155],
    [78, 52, 110, 130, 15, 35, 52],
    [110, 85, 80, 160, 35, 15, 46],
    [100, 70, 125, 155, 52, 46, 12],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_the_same_both_ways_and_shortest_at_home() {
        for a in Region::ALL {
            for b in Region::ALL {
                assert_eq!(a.latency(b), b.latency(a), "{a:?} {b:?}");
                assert!(a == b || a.latency(a) < a.latency(b), "{a:?} {b:?}");
            }
        }
    }
}
