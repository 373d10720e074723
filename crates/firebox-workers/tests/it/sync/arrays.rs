use firebox_workers::ErrorKind;
use firebox_workers::sync::{Event, Process, Queue, SealedArray, SharedArray, SharedValue};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{PATIENCE, stay};

#[test]
fn a_sealed_array_is_the_same_everywhere_and_nobody_writes_it() {
    fn looks((array, sums): (SealedArray<u32>, Queue<(u64, u64)>)) {
        let sum = array.iter().map(|&element| u64::from(element)).sum();
        sums.put(&(array.len() as u64, sum)).unwrap();
    }
    let array = SealedArray::from_fn(100_000, |index| index as u32).unwrap();
    let sums = Queue::new(2).unwrap();
    let processes = [(); 2].map(|()| Process::spawn(looks, (array.clone(), sums.clone())).unwrap());
    for process in processes {
        let exit = process.join();
        assert!(exit.is_success(), "{exit}");
        assert_eq!(sums.take().unwrap(), Some((100_000, 99_999 * 100_000 / 2)));
    }
    // Pages of the mapping that can't be written: the system says so.
    let address = array.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let rights = maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16).unwrap());
        (start..end).contains(&address).then(|| rest[..4].to_owned())
    });
    assert_eq!(rights.as_deref(), Some("r--p"));
}

#[test]
fn an_array_is_sealed_by_its_only_handle() {
    fn stays((_array, has_it): (SharedArray<u16>, Event)) {
        has_it.set();
        stay();
    }
    let array = SharedArray::from_slice(&[1_u16, 2, 3]).unwrap();
    let other = array.clone();
    let unsealed = array.seal().unwrap_err();
    assert!(unsealed.error.to_string().contains("expected its only handle, got several"));
    drop(other);
    // Nor as long as another process may write it.
    let array = unsealed.array.unwrap();
    let has_it = Event::new().unwrap();
    let process = Process::spawn(stays, (array.clone(), has_it.clone())).unwrap();
    assert!(has_it.wait_timeout(PATIENCE));
    let unsealed = array.seal().unwrap_err();
    assert_eq!(unsealed.error.kind(), &ErrorKind::System);
    process.kill();
    process.join();
    let array = unsealed.array.unwrap();
    array.set(1, 20).unwrap();
    let sealed = array.seal().unwrap();
    assert_eq!(*sealed, [1, 20, 3]);
}

#[test]
fn elements_beyond_the_end_are_errors() {
    let array = SharedArray::<u8>::new(3).unwrap();
    array.set(2, 7).unwrap();
    assert_eq!((array.get(2).unwrap(), array.to_vec().unwrap()), (7, vec![0, 0, 7]));
    let error = array.get(3).unwrap_err();
    assert_eq!(error.to_string(), "index of an array: expected less than 3, got 3");
    assert!(array.set(usize::MAX, 1).is_err());
    assert!(!array.is_empty());
}

#[test]
fn an_array_of_nothing_is_an_array() {
    fn looks((shared, sealed, lengths): (SharedArray<u64>, SealedArray<u64>, Queue<u64>)) {
        lengths.put(&((shared.len() + sealed.len() + shared.lock().unwrap().len()) as u64)).unwrap();
    }
    let (shared, sealed) = (SharedArray::new(0).unwrap(), SealedArray::from_slice(&[]).unwrap());
    let lengths = Queue::new(1).unwrap();
    assert!(Process::spawn(looks, (shared, sealed, lengths.clone())).unwrap().join().is_success());
    assert_eq!(lengths.take().unwrap(), Some(0));
}

#[test]
fn who_is_killed_with_the_elements_leaves_them_to_the_next_one() {
    fn writes((array, has_it): (SharedArray<u64>, Event)) {
        let mut elements = array.lock().unwrap();
        elements[0] = 1;
        has_it.set();
        stay();
    }
    let (array, has_it) = (SharedArray::<u64>::new(2).unwrap(), Event::new().unwrap());
    let process = Process::spawn(writes, (array.clone(), has_it.clone())).unwrap();
    assert!(has_it.wait_timeout(PATIENCE));
    process.kill();
    let elements = array.lock().unwrap();
    assert!(elements.was_abandoned());
    assert_eq!(*elements, [1, 0]);
    drop(elements);
    assert!(!array.lock().unwrap().was_abandoned());
}

#[test]
fn a_value_is_changed_by_all_processes() {
    fn counts(count: SharedValue<u64>) {
        for _ in 0..1_000 {
            count.update(|count| *count += 1).unwrap();
        }
    }
    let count = SharedValue::new(1_u64).unwrap();
    let processes = [(); 3].map(|()| Process::spawn(counts, count.clone()).unwrap());
    for process in processes {
        assert!(process.join().is_success());
    }
    assert_eq!((count.get().unwrap(), *count.lock().unwrap()), (3_001, 3_001));
}

#[test]
fn no_room_is_an_error_with_the_bytes_asked_for_and_no_signal() {
    fn asks(errors: Queue<(String, bool)>) {
        let limit = Rlimit { current: Some(1 << 20), maximum: getrlimit(Resource::Fsize).maximum };
        setrlimit(Resource::Fsize, limit).unwrap();
        let error = SharedArray::<u8>::new(2 << 20).unwrap_err();
        let is_it = matches!(error.kind(), ErrorKind::NoMemory { bytes } if *bytes >= 2 << 20);
        errors.put(&(error.to_string(), is_it)).unwrap();
        let error = SealedArray::from_slice(&[0_u64; 1 << 18]).unwrap_err();
        errors.put(&(error.to_string(), *error.kind() == ErrorKind::NoMemory { bytes: 2 << 20 })).unwrap();
        // What fits does.
        assert!(SharedArray::<u8>::new(1 << 19).is_ok());
    }
    let errors = Queue::new(2).unwrap();
    let exit = Process::spawn(asks, errors.clone()).unwrap().join();
    assert!(exit.is_success(), "{exit}");
    for _ in 0..2 {
        let (text, is_it) = errors.take().unwrap().unwrap();
        assert!(is_it && text.contains("files of this process may have 1048576 bytes"), "{text}");
    }
    let error = SharedArray::<u64>::new(usize::MAX / 8).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoMemory { .. }), "{error}");
    assert!(SharedArray::<u64>::new(usize::MAX).is_err());
}

#[test]
fn a_handle_is_written_to_no_file() {
    let array = SharedArray::<u8>::new(1).unwrap();
    let error = serde_json::to_string(&array).unwrap_err();
    assert!(error.to_string().contains("can be sent to a process only"), "{error}");
}
