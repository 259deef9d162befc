//! The basics of hostility, over real sockets: each attack is refused as docs/protocol.md says, is counted under its
//! code, and leaves the node well.

#[cfg(test)]
mod floods;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod tls;

#[cfg(test)]
use bt2c_tests::Told;

/// The code of the `disconnect` that ends what was heard, if one does.
#[cfg(test)]
fn told_code(told: &[Told]) -> Option<&str> {
    let (kind, data) = told.last()?;
    (kind == "disconnect").then(|| data["code"].as_str())?
}
