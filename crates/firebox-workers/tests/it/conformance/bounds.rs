//! How much is handed out.

use std::sync::Arc;

use firebox_workers::WorkersExt as _;

use super::{Act, Checked, Double, Play, Stage, Subject};

pub(crate) fn no_more_tasks_start_than_a_stream_allows<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut stream = pool.imap(Play, (0..).map(|name| Act::Mark { folder: stage.folder(), name }), 4);
    for consumed in 1..60 {
        stream.next().unwrap().unwrap();
        assert!((consumed..=consumed + 4).contains(&stage.marks()));
    }
}

pub(crate) fn dispatch_takes_as_many_tasks_as_its_bound_and_not_one_more<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let act = |name| Act::Wait { folder: stage.folder(), name, gate: 0 };
    let mut dispatch = pool.dispatch(Arc::new(Play), 3);
    assert_eq!(
        (dispatch.send(act(10)), dispatch.send(act(11)), dispatch.send(act(12))),
        (Ok(0), Ok(1), Ok(2))
    );
    assert_eq!((dispatch.send(act(13)), dispatch.outstanding()), (Err(act(13)), 3));
    assert!(dispatch.try_receive().is_none(), "all of them are held up");
    stage.open(0);
    assert!((10..13).contains(&dispatch.receive().unwrap().1.unwrap().value));
    assert_eq!(
        (dispatch.outstanding(), dispatch.send(act(13)), dispatch.send(act(14))),
        (2, Ok(3), Err(act(14)))
    );
    assert_eq!(std::iter::from_fn(|| dispatch.receive()).count(), 3);
    // A bound of nothing would be of no use.
    let mut narrow = pool.dispatch(Arc::new(Double), 0);
    assert_eq!((narrow.send(1), narrow.send(2)), (Ok(0), Err(2)));
    assert_eq!(narrow.receive().unwrap().1.unwrap(), 2);
}

pub(crate) fn a_consumer_that_stops_stops_the_workers<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let mut stream = pool.imap(Play, (0..20).map(|name| Act::Mark { folder: stage.folder(), name }), 3);
    // Nobody consumes, while the workers do all that comes after in another stream.
    let begun = if workers > 0 { 3 } else { 0 };
    stage.wait_for_marks(begun);
    assert_eq!(pool.map(Double, 0..1000).unwrap().len(), 1000);
    assert_eq!(stage.marks(), begun);
    assert_eq!(stream.next().unwrap().unwrap().value, 0);
    assert_eq!(stream.count(), 19);
    assert_eq!(stage.marks(), 20);
}

pub(crate) fn tasks_without_an_end_are_no_overflow<S: Subject>(workers: usize) {
    let pool = S::new(workers);
    let mut stream = pool.imap(Double, 0.., 3);
    assert_eq!(stream.size_hint(), (usize::MAX, None));
    assert_eq!(stream.by_ref().take(4).map(Result::unwrap).collect::<Vec<_>>(), [0, 2, 4, 6]);
    assert_eq!(stream.size_hint(), (usize::MAX, None));
    drop(stream);
    let mut unordered = pool.imap_unordered(Double, 0..u64::MAX / 2, usize::MAX);
    assert!(unordered.size_hint().0 >= usize::MAX / 2 - (1 << 16));
    assert!(unordered.next().is_some());
    drop(unordered);
    // As many results as are promised would not fit any memory.
    let odd_at_last = (0..u64::MAX / 4).map(|x| if x < 1000 { 2 * x } else { 1 });
    assert_eq!(pool.try_map(Checked, odd_at_last).unwrap_err().index(), Some(1000));
}

pub(crate) fn a_full_queue_gives_tasks_back_and_loses_none<S: Subject>(workers: usize) {
    let (pool, stage) = (S::new(workers), Stage::new());
    let act = |name: u64| match name < workers as u64 {
        true => Act::Wait { folder: stage.folder(), name, gate: 0 },
        false => Act::Echo(name),
    };
    let mut dispatch = pool.dispatch(Arc::new(Play), 60_000);
    let refused = (0..).find(|&task| dispatch.send(act(task)).is_err()).unwrap();
    assert!((workers as u64..=60_000).contains(&refused));
    assert_eq!(dispatch.send(act(refused)), Err(act(refused)), "and goes on to give it back");
    stage.open(0);
    // While the rest is received, more can be sent.
    let (mut next, last) = (refused, refused + 2000);
    let mut seen = vec![false; last as usize];
    while let Some((index, result)) = dispatch.receive() {
        assert_eq!(result.unwrap().value, index as u64);
        assert!(!std::mem::replace(&mut seen[index], true));
        while next < last && dispatch.send(act(next)).is_ok() {
            next += 1;
        }
    }
    assert!(seen.into_iter().all(|seen| seen));
}
