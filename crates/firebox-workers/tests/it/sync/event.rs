use std::time::Instant;

use firebox_workers::sync::{Event, Process, Queue};

use super::{MOMENT, PATIENCE};

fn waits((event, waiting, woken): (Event, Queue<()>, Queue<bool>)) {
    waiting.put(&()).unwrap();
    woken.put(&event.wait_timeout(PATIENCE)).unwrap();
}

#[test]
fn an_event_wakes_all_processes_also_if_it_is_cleared_at_once() {
    let (event, waiting, woken) = (Event::new().unwrap(), Queue::new(3).unwrap(), Queue::new(3).unwrap());
    let processes =
        [(); 3].map(|()| Process::spawn(waits, (event.clone(), waiting.clone(), woken.clone())).unwrap());
    for _ in &processes {
        waiting.take_timeout(PATIENCE).unwrap().unwrap();
    }
    // They have said that they are about to wait, and can't say that they do.
    std::thread::sleep(MOMENT * 4);
    assert!(woken.is_empty());
    event.set();
    event.clear();
    let set = Instant::now();
    for _ in &processes {
        assert_eq!(woken.take_timeout(PATIENCE).unwrap(), Some(true));
    }
    assert!(set.elapsed() < PATIENCE / 2);
    assert!(!event.is_set());
    for process in processes {
        assert!(process.join().is_success());
    }
}

#[test]
fn an_event_stays_set_until_it_is_cleared() {
    let event = Event::new().unwrap();
    assert!(!event.wait_timeout(MOMENT));
    event.clear();
    event.set();
    event.set();
    assert!(event.is_set() && event.clone().wait_timeout(MOMENT));
    event.wait();
    event.clear();
    event.clear();
    assert!(!event.is_set() && !event.wait_timeout(MOMENT));
}
