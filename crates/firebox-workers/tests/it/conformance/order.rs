//! Which result comes when.

use std::sync::Arc;

use firebox_workers::WorkersExt as _;

use super::{Act, Double, Play, Stage, Subject};

pub(crate) fn map_gives_results_in_the_order_of_the_tasks<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    for n in [0, 1, 2, 7, 5000] {
        let expected: Vec<u64> = (0..n).map(|x| x * 2).collect();
        assert_eq!(pool.map(Double, 0..n).unwrap(), expected, "{n} tasks");
    }
}

pub(crate) fn imap_gives_results_in_the_order_of_the_tasks<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    for in_flight in [0, 1, 2, 7, 100] {
        let mut stream = pool.imap(Double, 0..200, in_flight);
        assert_eq!(stream.size_hint(), (200, Some(200)));
        for task in 0..200 {
            assert_eq!(stream.consumed(), task as usize);
            assert_eq!(stream.next().unwrap().unwrap(), 2 * task, "{in_flight} in flight");
        }
        assert!(stream.next().is_none() && stream.next().is_none());
    }
}

pub(crate) fn imap_unordered_gives_each_result_once_under_its_index<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    for in_flight in [1, 3, 64] {
        let mut seen = [false; 500];
        for (task, result) in pool.imap_unordered(Double, 1000..1500, in_flight) {
            assert_eq!(result.unwrap(), 2 * (1000 + task as u64));
            assert!(!std::mem::replace(&mut seen[task], true), "task {task} came twice");
        }
        assert!(seen.iter().all(|&seen| seen), "{in_flight} in flight");
    }
}

pub(crate) fn dispatch_gives_each_result_once_under_its_index<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    for in_flight in [1, 2, 7, 100] {
        let mut dispatch = pool.dispatch(Arc::new(Double), in_flight);
        let (mut sent, mut seen) = (0, [false; 200]);
        loop {
            while sent < 200 && dispatch.outstanding() < in_flight {
                match dispatch.send(500 + sent) {
                    Ok(index) => assert_eq!(index, sent as usize, "indices count the tasks"),
                    Err(back) => {
                        assert_eq!(back, 500 + sent, "the very task comes back");
                        break;
                    }
                }
                sent += 1;
            }
            let Some((index, result)) = dispatch.receive() else { break };
            assert_eq!(result.unwrap(), 2 * (500 + index as u64));
            assert!(!std::mem::replace(&mut seen[index], true), "task {index} came twice");
        }
        assert!(seen.iter().all(|&seen| seen), "{in_flight} in flight");
        assert_eq!((dispatch.outstanding(), dispatch.receive().is_none()), (0, true));
    }
}

pub(crate) fn a_first_task_that_ends_last_still_comes_first<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut acts: Vec<_> = (0..8).map(Act::Echo).collect();
    acts[0] = Act::Wait { folder: stage.folder(), name: 0, gate: 0 };
    acts[7] = Act::Mark { folder: stage.folder(), name: 7 };
    let stream = pool.imap(Play, acts, 8);
    // Every other task is begun before the first one ends.
    stage.wait_for_marks(2);
    stage.open(0);
    let values: Vec<u64> = stream.map(|played| played.unwrap().value).collect();
    assert_eq!(values, [0, 1, 2, 3, 4, 5, 6, 7]);
}

pub(crate) fn unordered_results_come_as_they_are_ready<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut acts: Vec<_> = (0..5).map(Act::Echo).collect();
    acts[0] = Act::Wait { folder: stage.folder(), name: 0, gate: 0 };
    let mut stream = pool.imap_unordered(Play, acts, 5);
    let mut first: Vec<_> = stream.by_ref().take(4).map(|(task, _)| task).collect();
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3, 4], "the first task is still held back");
    stage.open(0);
    assert_eq!(stream.next().map(|(task, played)| (task, played.unwrap().value)), Some((0, 0)));
    assert!(stream.next().is_none() && stream.next().is_none());
}
