//! Elements in memory that goes back and forth between processes.
//!
//! A worker process writes a batch's elements into a [`Region`], and its parent takes them over there:
//! nothing is copied. That is for elements of which every pattern of bits is a value, known by their type;
//! others go by value.
//!
//! A region is with one process at a time. Its parent lends one in which nobody has a part, or the worker
//! makes one; the worker writes its batch there, says which parts it hands over, and has dropped them before
//! it takes another order; where it has kept a part, it says that the region isn't to be lent again.

#![allow(unsafe_code, reason = "takes parts of what several processes have mapped; see above")]

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use firebox_workers::sync::region::{ALIGNMENT, Part, Region};

/// Some elements in a region.
pub(crate) trait SharedPart<T>: Send + Sync {
    fn elements(&self) -> &[T];
    fn elements_mut(&mut self) -> &mut [T];
    /// A copy of the first ones.
    fn to_vec(&self, length: usize) -> Vec<T>;
    fn region(&self) -> &Region;
    /// Where in the region they are.
    fn place(&self) -> (u64, u64);
}

impl<T: Pod + Send + Sync> SharedPart<T> for Part<T> {
    fn elements(&self) -> &[T] {
        self
    }

    fn elements_mut(&mut self) -> &mut [T] {
        self
    }

    fn to_vec(&self, length: usize) -> Vec<T> {
        self[..length].to_vec()
    }

    fn region(&self) -> &Region {
        self.region()
    }

    fn place(&self) -> (u64, u64) {
        self.place()
    }
}

/// How a part is had, whatever its elements.
trait Had {
    fn part<T: Pod + Send + Sync>(&self) -> Option<Part<T>>;
}

/// A part of elements that are numbers; `None` for others, and if there is none to be had.
fn of_numbers<T: 'static>(had: &impl Had) -> Option<Box<dyn SharedPart<T>>> {
    macro_rules! numbers {
        ($($number:ty),+) => {$(
            if TypeId::of::<T>() == TypeId::of::<$number>() {
                let part: Box<dyn SharedPart<$number>> = Box::new(had.part::<$number>()?);
                let part: Box<dyn Any> = Box::new(part);
                // The two types are one.
                return part.downcast::<Box<dyn SharedPart<T>>>().ok().map(|part| *part);
            }
        )+};
    }
    numbers!(f32, u8, i64, f64, i32, u32, u64, i16, u16, i8, usize, isize, u128, i128);
    None
}

/// The memory that a worker process makes a batch in.
pub(crate) struct SharedMemory {
    /// The first has come with the task, if one has.
    regions: Mutex<Vec<Region>>,
    /// The bytes that the batch is expected to take.
    bytes: usize,
}

impl SharedMemory {
    pub(crate) fn new(region: Option<Region>, bytes: usize) -> Self {
        SharedMemory { regions: Mutex::new(region.into_iter().collect()), bytes }
    }

    fn regions(&self) -> MutexGuard<'_, Vec<Region>> {
        // What panics under this lock, for want of memory, has changed nothing.
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for so many elements, if they are numbers.
    ///
    /// # Panics
    /// If there is no memory: the loader makes that the error of the batch.
    pub(crate) fn part<T: 'static>(&self, length: usize) -> Option<Box<dyn SharedPart<T>>> {
        struct Room<'m>(&'m SharedMemory, usize);
        impl Had for Room<'_> {
            fn part<T: Pod + Send + Sync>(&self) -> Option<Part<T>> {
                let Room(memory, length) = *self;
                // SAFETY: this is the worker, and the regions are with it: the parent has no part of one that
                // it lends, takes none until it has the answer, and knows nothing of one that was made here.
                let part = |region: &Region| unsafe { region.part(length) };
                let mut regions = memory.regions();
                if let Some(part) = regions.iter().find_map(part) {
                    return Some(part);
                }
                let bytes = length.checked_mul(size_of::<T>())?;
                let expected = if regions.is_empty() { memory.bytes } else { 0 };
                match Region::new(bytes.max(expected).next_multiple_of(ALIGNMENT)) {
                    Ok(region) => {
                        let part = part(&region);
                        regions.push(region);
                        part
                    }
                    Err(error) => panic!("no memory for {length} elements: {error}"),
                }
            }
        }
        // Nothing takes no region.
        (length > 0).then(|| of_numbers(&Room(self, length))).flatten()
    }

    /// The regions so far.
    pub(crate) fn list(&self) -> Vec<Region> {
        self.regions().clone()
    }
}

thread_local! {
    /// The regions whose parts this thread is handing over, with how many of each it has; or those of which
    /// it takes parts.
    static CROSSING: RefCell<Option<Vec<(Region, usize)>>> = const { RefCell::new(None) };
}

/// Has elements in these regions be written, or read, as places in them while `cross` runs; and says how many
/// there were in each.
///
/// Whoever writes them so gives them up: it drops them, and doesn't touch their memory again.
pub(crate) fn crossing<R>(regions: &[Region], cross: impl FnOnce() -> R) -> (R, Vec<usize>) {
    struct Within(Option<Vec<(Region, usize)>>);
    impl Drop for Within {
        fn drop(&mut self) {
            CROSSING.set(self.0.take());
        }
    }
    let within = Within(CROSSING.replace(Some(regions.iter().map(|region| (region.clone(), 0)).collect())));
    let result = cross();
    let counts = CROSSING.take().unwrap_or_default().into_iter().map(|(_, count)| count).collect();
    drop(within);
    (result, counts)
}

/// Where elements are that are being handed over: which region, and where in it.
pub(crate) fn hand_over<T>(part: &dyn SharedPart<T>) -> Option<(u32, u64, u64)> {
    CROSSING.with_borrow_mut(|regions| {
        let regions = regions.as_mut()?;
        let number = regions.iter().position(|(region, _)| region == part.region())?;
        regions[number].1 += 1;
        let (start, length) = part.place();
        Some((number as u32, start, length))
    })
}

/// The elements at a place that was handed over.
///
/// # Errors
/// A message, if there are none.
pub(crate) fn take_over<T: 'static>(
    (region, start, length): (u32, u64, u64),
) -> Result<Box<dyn SharedPart<T>>, String> {
    struct Place<'r>(&'r Region, (u64, u64), RefCell<Option<String>>);
    impl Had for Place<'_> {
        fn part<T: Pod + Send + Sync>(&self) -> Option<Part<T>> {
            // SAFETY: this is the parent, which reads a worker's answer. The worker has handed the place over
            // by `crossing`, drops its part with the answer that it has written, and takes none there until
            // the region is lent again, which it isn't as long as a part of it lives here.
            let part = unsafe { Part::taken_over(self.0, self.1) };
            part.map_err(|error| self.2.replace(Some(error))).ok()
        }
    }
    let known = CROSSING.with_borrow(|regions| Some(regions.as_ref()?.get(region as usize)?.0.clone()));
    let known = known.ok_or("elements of a batch: expected a region that came along, got none")?;
    let place = Place(&known, (start, length), RefCell::default());
    let part = of_numbers(&place);
    part.ok_or_else(|| {
        let why = place.2.take();
        why.unwrap_or_else(|| "elements of a batch: expected numbers, got another type".to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_parts_and_others_have_none() {
        let memory = SharedMemory::new(None, 100);
        let mut floats = memory.part::<f32>(10).unwrap();
        floats.elements_mut().fill(0.5);
        assert_eq!((floats.to_vec(3), floats.place()), (vec![0.5; 3], (0, 10)));
        assert!(memory.part::<bool>(1).is_none() && memory.part::<String>(1).is_none());
        assert_eq!(memory.list().len(), 1, "one region of the expected size");
        let more = memory.part::<u64>(100).unwrap();
        assert_eq!((memory.list().len(), more.place()), (2, (0, 100)));
    }

    #[test]
    fn elements_are_handed_over_by_their_place() {
        let memory = SharedMemory::new(None, 1000);
        let mut sent = memory.part::<i64>(3).unwrap();
        sent.elements_mut().copy_from_slice(&[5, 6, 7]);
        assert_eq!(hand_over(&*sent), None, "nobody takes it");
        let regions = memory.list();
        let (place, counts) = crossing(&regions, || hand_over(&*sent).unwrap());
        assert_eq!((place, counts), ((0, 0, 3), vec![1]));
        // Within one process the table of parts knows that somebody has them.
        assert!(crossing(&regions, || take_over::<i64>(place)).0.is_err());
        drop(sent);
        assert!(take_over::<i64>(place).is_err(), "no region came along");
        let (taken, _) = crossing(&regions, || take_over::<i64>(place).map(|part| part.to_vec(3)));
        assert_eq!(taken, Ok(vec![5, 6, 7]));
        for wrong in [(1, 0, 3), (0, 8, 3), (0, 0, 129)] {
            assert!(crossing(&regions, || take_over::<i64>(wrong)).0.is_err(), "{wrong:?}");
        }
        let error = crossing(&regions, || take_over::<bool>(place).err()).0.unwrap();
        assert!(error.contains("expected numbers"), "{error}");
    }
}
