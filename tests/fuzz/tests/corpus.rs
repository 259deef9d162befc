//! Every committed input keeps what its target promises.

use std::{fs, path::Path};

use bt2c_fuzz::TARGETS;

#[test]
fn every_committed_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let mut inputs: Vec<_> = fs::read_dir(corpus.join(target.name))
            .unwrap_or_else(|error| panic!("{} has no corpus: {error}", target.name))
            .map(|entry| entry.unwrap().path())
            .collect();
        inputs.sort();
        assert!(inputs.len() > 5, "{} has hardly a corpus", target.name);
        for input in inputs {
            println!("{}", input.display()); // shown when it fails
            (target.run)(&fs::read(input).unwrap());
        }
    }
    let directories = fs::read_dir(&corpus).unwrap().count();
    assert_eq!(directories, TARGETS.len(), "a corpus of no target is never run");
}
