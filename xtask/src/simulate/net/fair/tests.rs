use proptest::prelude::*;

use super::*;

fn rates(fair: &Fair, flows: &[FlowId]) -> Vec<u64> {
    flows.iter().map(|flow| fair.flows[flow.0].rate).collect()
}

#[test]
fn a_flow_that_is_slow_elsewhere_leaves_the_rest_to_the_others() {
    let mut fair = Fair::default();
    let (wide, narrow) = (fair.add_link(9_000), fair.add_link(1_000));
    let flows = [
        fair.start([Some(wide), None]),
        fair.start([Some(wide), None]),
        fair.start([Some(wide), Some(narrow)]),
    ];
    fair.settle();
    assert_eq!(rates(&fair, &flows), [4_000, 4_000, 1_000]);
    fair.end(flows[0]);
    let changes = fair.settle();
    assert_eq!(changes, [Change { flow: flows[1], rate: 8_000 }]);
}

#[test]
fn links_without_a_common_flow_are_not_visited() {
    let mut fair = Fair::default();
    let (one, two) = (fair.add_link(1_000), fair.add_link(1_000));
    fair.start([Some(one), None]);
    fair.settle();
    fair.start([Some(two), None]);
    assert_eq!(fair.open_component(), [two]);
}

/// The flows of the link, each with its rate.
fn across(fair: &Fair, link: LinkId) -> Vec<u64> {
    rates(fair, &fair.links[link.0].flows)
}

fn check(fair: &Fair, flows: &[FlowId]) -> Result<(), TestCaseError> {
    for link in &fair.links {
        let load: u64 = rates(fair, &link.flows).iter().sum();
        prop_assert!(load <= link.capacity, "{load} of {}", link.capacity);
    }
    for &flow in flows {
        let rate = fair.flows[flow.0].rate;
        // Its bottleneck: full (no flow could get a bit more without another's loss), and nobody has more there.
        let bottleneck = fair.flows[flow.0].links.into_iter().flatten().any(|link| {
            let across = across(fair, link);
            let unused = fair.links[link.0].capacity - across.iter().sum::<u64>();
            unused < across.len() as u64 && across.iter().all(|other| *other <= rate)
        });
        prop_assert!(bottleneck, "{flow:?} at {rate} has no bottleneck");
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Start(Option<usize>, Option<usize>),
    End(usize),
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let link = proptest::option::weighted(0.8, 0..8_usize);
    let step = prop_oneof![
        5 => (link.clone(), link).prop_map(|(up, down)| Step::Start(up, down)),
        3 => (0..64_usize).prop_map(Step::End),
        3 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #[test]
    fn shares_are_max_min_fair(capacities in proptest::collection::vec(1_000..1_000_000_u64, 16), steps in steps()) {
        let mut fair = Fair::default();
        let links: Vec<_> = capacities.iter().map(|capacity| fair.add_link(*capacity)).collect();
        let (mut flows, mut paths) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Start(None, None) => {}
                Step::Start(up, down) => {
                    let path = [up.map(|up| links[up]), down.map(|down| links[8 + down])];
                    flows.push(fair.start(path));
                    paths.push(path);
                }
                Step::End(at) if at < flows.len() => {
                    fair.end(flows.remove(at));
                    paths.remove(at);
                }
                Step::End(_) => {}
                Step::Settle => {
                    fair.settle();
                    check(&fair, &flows)?;
                }
            }
        }
        fair.settle();
        check(&fair, &flows)?;
        // Step by step gives what all at once gives.
        let mut fresh = Fair::default();
        for capacity in &capacities {
            fresh.add_link(*capacity);
        }
        let again: Vec<_> = paths.into_iter().map(|path| fresh.start(path)).collect();
        fresh.settle();
        prop_assert_eq!(rates(&fair, &flows), rates(&fresh, &again));
    }
}
