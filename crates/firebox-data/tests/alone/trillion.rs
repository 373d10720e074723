//! A data set of 10¹² samples costs no memory.

use firebox_data::{BoxError, Dataset, Loader, LoaderState, Scalar};

use crate::{in_a_process_of_its_own, turn};

/// Items that are their own index.
struct Virtual(usize);

impl Dataset for Virtual {
    type Item = usize;

    fn get(&self, index: usize) -> Result<usize, BoxError> {
        Ok(index)
    }

    fn len(&self) -> usize {
        self.0
    }
}

fn loader(len: usize) -> Loader<Scalar<usize>> {
    Loader::builder(Virtual(len))
        .shuffle(true)
        .batch_size(64)
        .workers(2)
        .build(Scalar::new(), |index, _, slot| {
            *slot = index;
            Ok(())
        })
        .unwrap()
}

/// The most memory that the process ever had in use, in kB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim_end_matches("kB").trim().parse().unwrap()
}

#[test]
fn a_trillion_samples_take_less_than_a_megabyte() {
    const BEGUN: &str = "FIREBOX_TEST_TRILLION";
    if std::env::var_os(BEGUN).is_none() {
        // The peak is that of a process, and other tests would have raised it.
        let _turn = turn();
        let test = "trillion::a_trillion_samples_take_less_than_a_megabyte";
        return in_a_process_of_its_own(test, &[(BEGUN, "1")]);
    }
    // Threads, queues and code pages are there for any loader: a small one shows them first.
    drop(loader(10_000).epoch(0).last());
    let before = peak();
    let loader = loader(1_000_000_000_000);
    let mut epoch = loader.epoch(3);
    assert_eq!(epoch.next().unwrap().unwrap().len(), 64);
    let text = serde_json::to_string(&epoch.state()).unwrap().replace("\"batch\":1", "\"batch\":7812500000");
    let state: LoaderState = serde_json::from_str(&text).unwrap();
    drop(epoch);
    let batch = loader.resume(&state).unwrap().next().unwrap().unwrap();
    assert!(batch.iter().any(|&index| index > 500_000_000_000));
    let grown = peak() - before;
    assert!(grown < 1024, "{grown} kB");
}
