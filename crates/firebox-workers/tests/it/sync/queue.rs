use std::collections::BTreeMap;
use std::time::Duration;

use firebox_workers::ErrorKind;
use firebox_workers::sync::{Event, Process, Queue, SharedArray};

use super::{MOMENT, PATIENCE};

#[test]
fn every_value_is_taken_once_and_in_order() {
    const VALUES: u64 = 1_000;
    type Values = Queue<(u64, u64)>;
    fn puts((queue, who): (Values, u64)) {
        for value in 0..VALUES {
            queue.put(&(who, value)).unwrap();
        }
    }
    fn takes((queue, taken): (Values, Queue<(u64, u64, u64)>)) {
        let me = u64::from(std::process::id());
        while let Some((who, value)) = queue.take().unwrap() {
            assert!(queue.len() <= queue.capacity());
            taken.put(&(me, who, value)).unwrap();
        }
    }
    let (queue, taken) = (Queue::new(3).unwrap(), Queue::new(10_000).unwrap());
    let consumers = [(); 2].map(|()| Process::spawn(takes, (queue.clone(), taken.clone())).unwrap());
    let producers = [0, 1].map(|who| Process::spawn(puts, (queue.clone(), who)).unwrap());
    for producer in producers {
        assert!(producer.join().is_success());
    }
    queue.close().unwrap();
    for consumer in consumers {
        let exit = consumer.join();
        assert!(exit.is_success(), "{exit}");
    }
    taken.close().unwrap();
    // What one process takes of another's comes in the order in which it was put.
    let mut last = BTreeMap::new();
    let mut seen = vec![0; 2 * VALUES as usize];
    while let Some((consumer, producer, value)) = taken.take().unwrap() {
        assert!(last.insert((consumer, producer), value).is_none_or(|last| last < value));
        seen[(producer * VALUES + value) as usize] += 1;
    }
    assert!(seen.iter().all(|&count| count == 1));
}

#[test]
fn a_queue_has_its_bounds() {
    let queue = Queue::new(2).unwrap();
    assert!(queue.try_put(&1).unwrap() && queue.try_put(&2).unwrap());
    assert!(!queue.try_put(&3).unwrap() && !queue.put_timeout(&3, MOMENT).unwrap());
    assert_eq!((queue.len(), queue.capacity()), (2, 2));
    assert_eq!(queue.take().unwrap(), Some(1));
    assert!(queue.put_timeout(&3, MOMENT).unwrap());
    queue.close().unwrap();
    assert_eq!(queue.put(&4).unwrap_err().kind(), &ErrorKind::Closed);
    assert_eq!((queue.take().unwrap(), queue.try_take().unwrap()), (Some(2), Some(3)));
    assert_eq!(queue.take().unwrap(), None);
    assert_eq!(queue.try_take().unwrap_err().kind(), &ErrorKind::Closed);
    assert!(queue.is_empty());
    let queue = Queue::<u8>::new(1).unwrap();
    assert_eq!((queue.try_take().unwrap(), queue.take_timeout(MOMENT).unwrap()), (None, None));
    for capacity in [0, (1 << 20) + 1, usize::MAX] {
        let error = Queue::<u8>::new(capacity).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::OutOfRange { .. }), "{error}");
    }
}

#[test]
fn as_many_values_as_a_queue_has_places_fit_in_whatever_its_length() {
    for capacity in [1, 31, 1_000, 20_000] {
        let queue = Queue::new(capacity).unwrap();
        for value in 0..capacity as u64 {
            assert!(queue.try_put(&(value, [7_u32; 3])).unwrap(), "{value} of {capacity}");
        }
        assert!(!queue.try_put(&(0, [0; 3])).unwrap());
        assert_eq!(queue.len(), capacity);
    }
}

/// A value that is whole, or shows that it is not.
fn value_of(number: u64, bytes: usize) -> Vec<u64> {
    let mut value: Vec<u64> = (0..bytes as u64 / 8).map(|index| index ^ number).collect();
    value.push(number);
    value
}

fn check(value: &[u64]) {
    let number = *value.last().unwrap();
    assert!(value == value_of(number, (value.len() - 1) * 8), "a value of {} in parts", value.len());
}

#[test]
fn values_of_all_sizes_come_whole() {
    fn echoes((there, back): (Queue<Vec<u64>>, Queue<Vec<u64>>)) {
        while let Some(value) = there.take().unwrap() {
            check(&value);
            back.put(&value).unwrap();
        }
    }
    let (there, back) = (Queue::new(2).unwrap(), Queue::new(2).unwrap());
    let process = Process::spawn(echoes, (there.clone(), back.clone())).unwrap();
    for (number, bytes) in
        [0, 8, 32 << 10, (32 << 10) - 16, (32 << 10) + 8, 1 << 20, 5 << 20].into_iter().enumerate()
    {
        there.put(&value_of(number as u64, bytes)).unwrap();
        assert_eq!(back.take().unwrap().unwrap(), value_of(number as u64, bytes), "{bytes} bytes");
    }
    there.close().unwrap();
    assert!(process.join().is_success());
}

#[test]
fn producers_that_are_killed_at_any_time_leave_whole_values_and_a_queue() {
    fn puts((queue, bytes): (Queue<Vec<u64>>, u64)) {
        for number in 0.. {
            queue.put(&value_of(number, bytes as usize)).unwrap();
        }
    }
    // Small ones, ones that fill a place, and ones that go in memory of their own.
    for bytes in [64, 16 << 10, 200 << 10] {
        let queue = Queue::new(4).unwrap();
        for turn in 0..12_u64 {
            let producers = [(); 2].map(|()| Process::spawn(puts, (queue.clone(), bytes)).unwrap());
            check(&queue.take_timeout(PATIENCE).unwrap().unwrap());
            let until = std::time::Instant::now() + Duration::from_micros(turn * 700);
            while std::time::Instant::now() < until {
                check(&queue.take_timeout(PATIENCE).unwrap().unwrap());
            }
            for producer in &producers {
                producer.kill();
            }
            for producer in &producers {
                assert_eq!(producer.join().signal(), Some(9));
            }
            // What was put is there, and all places can be used.
            while let Some(value) = queue.try_take().unwrap() {
                check(&value);
            }
            for number in 0..4 {
                assert!(queue.try_put(&value_of(number, bytes as usize)).unwrap());
            }
            assert!(!queue.try_put(&value_of(9, bytes as usize)).unwrap());
            for number in 0..4 {
                assert_eq!(queue.try_take().unwrap(), Some(value_of(number, bytes as usize)));
            }
        }
    }
}

#[test]
fn consumers_that_are_killed_at_any_time_take_one_value_at_most() {
    fn takes((queue, begun): (Queue<Vec<u64>>, Event)) {
        begun.set();
        while let Some(value) = queue.take().unwrap() {
            check(&value);
        }
    }
    for bytes in [64, 200 << 10] {
        let queue = Queue::new(2).unwrap();
        for turn in 0..8_u64 {
            let begun = Event::new().unwrap();
            let consumer = Process::spawn(takes, (queue.clone(), begun.clone())).unwrap();
            assert!(begun.wait_timeout(PATIENCE));
            let until = std::time::Instant::now() + Duration::from_micros(turn * 500);
            let mut number = 0;
            while std::time::Instant::now() < until {
                assert!(queue.put_timeout(&value_of(number, bytes), PATIENCE).unwrap());
                number += 1;
            }
            consumer.kill();
            assert_eq!(consumer.join().signal(), Some(9));
            while let Some(value) = queue.try_take().unwrap() {
                check(&value);
            }
            assert!(queue.try_put(&value_of(7, bytes)).unwrap());
            assert_eq!(queue.take().unwrap(), Some(value_of(7, bytes)));
        }
    }
}

#[test]
fn a_consumer_that_is_killed_while_it_waits_leaves_values_to_the_others() {
    fn takes((queue, waiting): (Queue<u64>, Queue<()>)) {
        waiting.put(&()).unwrap();
        assert_eq!(queue.take().unwrap(), Some(1));
    }
    let (queue, waiting) = (Queue::new(1).unwrap(), Queue::new(2).unwrap());
    let consumers = [(); 2].map(|()| Process::spawn(takes, (queue.clone(), waiting.clone())).unwrap());
    for _ in &consumers {
        waiting.take_timeout(PATIENCE).unwrap().unwrap();
    }
    std::thread::sleep(MOMENT);
    consumers[0].kill();
    queue.put(&1).unwrap();
    consumers[0].join();
    if !queue.is_empty() || !consumers[1].is_alive() {
        // Neither was it taken by the one that was killed.
        assert!(consumers[1].join_timeout(PATIENCE).is_some_and(|exit| exit.is_success()));
    }
    consumers[1].kill();
}

#[test]
fn what_is_shared_goes_through_a_queue() {
    fn fills(arrays: Queue<SharedArray<u32>>) {
        while let Some(array) = arrays.take().unwrap() {
            let first = array.get(0).unwrap();
            array.lock().unwrap().fill(first + 1);
        }
    }
    let queue = Queue::new(2).unwrap();
    let process = Process::spawn(fills, queue.clone()).unwrap();
    let arrays: Vec<_> = (0..50).map(|number| SharedArray::from_slice(&[number; 100]).unwrap()).collect();
    for array in &arrays {
        queue.put(array).unwrap();
    }
    queue.close().unwrap();
    assert!(process.join().is_success());
    for (number, array) in arrays.iter().enumerate() {
        assert_eq!(array.to_vec().unwrap(), [number as u32 + 1; 100]);
    }
    // Also the queue itself, and what nobody takes.
    let queues = Queue::<Queue<u8>>::new(1).unwrap();
    let inner = Queue::new(1).unwrap();
    queues.put(&inner).unwrap();
    inner.put(&3).unwrap();
    assert_eq!(queues.take().unwrap().unwrap().take().unwrap(), Some(3));
}

#[test]
fn more_shared_values_than_may_be_on_their_way_make_a_queue_full() {
    let queue = Queue::new(5_000).unwrap();
    let event = Event::new().unwrap();
    let mut put = 0;
    while queue.try_put(&event).unwrap() {
        put += 1;
    }
    assert!((100..5_000).contains(&put), "{put}");
    for _ in 0..put {
        queue.take().unwrap().unwrap().set();
    }
    assert!(event.is_set() && queue.is_empty());
    assert!(queue.try_put(&event).unwrap());
}

#[test]
fn a_producer_that_is_killed_between_its_files_and_its_value_leaves_nothing_to_the_next() {
    fn puts(queue: Queue<(u64, SharedArray<u64>)>) {
        for number in 0.. {
            queue.put(&(number, SharedArray::from_slice(&[number]).unwrap())).unwrap();
        }
    }
    let queue = Queue::new(8).unwrap();
    for turn in 0..15_u64 {
        let producer = Process::spawn(puts, queue.clone()).unwrap();
        let until = std::time::Instant::now() + Duration::from_micros(500 + turn * 300);
        let mut taken = 0;
        while std::time::Instant::now() < until || taken == 0 {
            let (number, array) = queue.take_timeout(PATIENCE).unwrap().unwrap();
            assert_eq!(array.get(0).unwrap(), number, "a value with another one's files");
            taken += 1;
        }
        producer.kill();
        producer.join();
    }
    while let Some((number, array)) = queue.try_take().unwrap() {
        assert_eq!(array.get(0).unwrap(), number);
    }
}
