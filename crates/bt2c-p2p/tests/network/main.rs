//! Managers that meet over an in-memory network, on virtual time.

#[cfg(test)]
mod flow;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod life;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod meeting;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod refusals;
