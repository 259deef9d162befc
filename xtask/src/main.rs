//! `cargo xtask`: see the library.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    xtask::Xtask::parse().run()
}
