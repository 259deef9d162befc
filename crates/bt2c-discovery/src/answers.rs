//! The selections of addresses from which askers of one netgroup are answered.

use std::{collections::BTreeMap, net::SocketAddr};

use bt2c_proto::Time;

use crate::reach::Group;

/// What the askers of one netgroup are told of, until it expires.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) until: Time,
    pub(crate) addrs: Vec<SocketAddr>,
}

/// One selection for each netgroup that asked lately.
///
/// Never holds more than [`MAX_GROUPS`]; beyond, the one that expires first makes room. Whoever can ask from that many
/// netgroups sees as many selections anyway.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    selections: BTreeMap<Group, Selection>,
}

impl Answers {
    /// Takes out the selection of a group, if it has not expired.
    pub(crate) fn take(&mut self, now: Time, group: Group) -> Option<Selection> {
        self.selections.remove(&group).filter(|selection| selection.until > now)
    }

    /// Puts in a selection for a group.
    pub(crate) fn put(&mut self, group: Group, selection: Selection) {
        self.selections.insert(group, selection);
        if self.selections.len() > MAX_GROUPS {
            let first = self.selections.iter().min_by_key(|(_, selection)| selection.until);
            let first = first.map(|(group, _)| *group).expect("there are more than MAX_GROUPS");
            self.selections.remove(&first);
        }
    }
}

const MAX_GROUPS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_expire_and_the_first_to_expire_makes_room() {
        let mut answers = Answers::default();
        let group = |n: u8, m: u8| Group::of_ip([8, n, m, 1].into());
        let put = |answers: &mut Answers, n: u8, secs| {
            answers.put(group(n, 0), Selection { until: Time::from_secs(secs), addrs: Vec::new() });
        };
        for n in 0..=255 {
            put(&mut answers, n, 100 + u64::from(n));
        }
        answers.put(
            Group::of_ip([9, 9, 9, 9].into()),
            Selection { until: Time::from_secs(999), addrs: Vec::new() },
        );
        assert!(answers.take(Time::from_secs(1), group(0, 0)).is_none(), "it was the first to expire");
        assert!(answers.take(Time::from_secs(1), group(1, 7)).is_some());
        assert!(answers.take(Time::from_secs(102), group(2, 0)).is_none());
        assert!(answers.selections.len() <= MAX_GROUPS);
    }
}
