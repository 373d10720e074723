//! A lock that survives whoever dies holding it: pthread's robust mutex, in shared memory.
//!
//! The kernel knows which mutexes a thread holds (a list that glibc keeps for it), and gives them to the next
//! in line when the thread ends, however it ends. Nothing that can be built from futexes alone does that for
//! a process which is killed.
//!
//! What a mutex keeps in shared memory is believed, as pthread's own functions do. Safe code of all processes
//! can't reach it; memory that is to be shared with a process which is believed nothing has no mutex in it.

#![allow(unsafe_code, reason = "calls pthread's functions; each place has its argument")]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use crate::error::{Error, ErrorKind};
use crate::sync::memory::{Access, Memory, system};

/// Where a mutex stands in its memory: on a cache line of its own.
const AT: usize = 64;

/// The most bytes that a mutex may take.
pub(in crate::sync) const END: usize = 128;

const _: () = assert!(AT + size_of::<libc::pthread_mutex_t>() <= END);
const _: () = assert!(align_of::<libc::pthread_mutex_t>() <= AT);

/// Makes the mutex of new memory.
///
/// # Panics
/// If the memory is too small.
pub(in crate::sync) fn create(memory: &mut Memory) -> Result<(), Error> {
    let mutex = pointer(memory);
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    let check = |code| match code {
        0 => Ok(()),
        code => Err(system("making a lock", Errno::from_raw_os_error(code))),
    };
    // SAFETY: the attributes are initialized by the first call and destroyed by the last one. The mutex lies
    // in mapped memory that nobody else has yet, for it is borrowed alone, and is initialized once. It needs
    // no destruction: what it consists of goes with its memory.
    unsafe {
        check(libc::pthread_mutexattr_init(attributes))?;
        let made = check(libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED))
            .and_then(|()| check(libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST)))
            .and_then(|()| check(libc::pthread_mutexattr_settype(attributes, libc::PTHREAD_MUTEX_ERRORCHECK)))
            .and_then(|()| check(libc::pthread_mutex_init(mutex, attributes)));
        libc::pthread_mutexattr_destroy(attributes);
        made
    }
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) enum Patience {
    /// Not at all.
    Try,
    /// Until then.
    Until(Instant),
    /// For ever.
    Forever,
}

/// A lock that is held. Its thread gives it back.
#[derive(Debug)]
pub(in crate::sync) struct Held {
    /// Kept, so that the memory stays mapped also if somebody forgets the guard: the thread's list of what it
    /// holds points into it.
    memory: Arc<Memory>,
    abandoned: bool,
    _of_this_thread: PhantomData<*const ()>,
}

impl Held {
    /// Locks the mutex in the memory of [`create`]; `None` if that takes too long.
    ///
    /// # Errors
    /// [`ErrorKind::Deadlock`] if this thread holds it.
    pub(in crate::sync) fn lock(memory: &Arc<Memory>, patience: Patience) -> Result<Option<Self>, Error> {
        let mutex = pointer(memory);
        // SAFETY: the mutex was made by `create`, for its memory is of a kind that is made there only, and is
        // mapped as long as `memory` is.
        let code = unsafe {
            match patience {
                Patience::Forever => libc::pthread_mutex_lock(mutex),
                Patience::Try => libc::pthread_mutex_trylock(mutex),
                Patience::Until(deadline) => loop {
                    let left = deadline.saturating_duration_since(Instant::now());
                    let code = libc::pthread_mutex_timedlock(mutex, &until(left));
                    // Its clock is that of the day, which somebody may have set forward.
                    if code != libc::ETIMEDOUT || Instant::now() >= deadline {
                        break code;
                    }
                },
            }
        };
        let held = |abandoned| Held { memory: Arc::clone(memory), abandoned, _of_this_thread: PhantomData };
        match code {
            0 => Ok(Some(held(false))),
            libc::EOWNERDEAD => {
                // SAFETY: the mutex is as above, and this thread holds it now. Should the process die before
                // this, the next one is told the same.
                unsafe { libc::pthread_mutex_consistent(mutex) };
                Ok(Some(held(true)))
            }
            libc::EBUSY | libc::ETIMEDOUT => Ok(None),
            // Whoever only tries is told that it is held, by whomever.
            libc::EDEADLK if matches!(patience, Patience::Try) => Ok(None),
            libc::EDEADLK => Err(Error::from(ErrorKind::Deadlock)),
            code => Err(system("locking", Errno::from_raw_os_error(code))),
        }
    }

    /// True if the one before ended while it held the lock.
    pub(in crate::sync) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    pub(in crate::sync) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: the mutex is that of `lock`; this thread holds it, since the value can't go to another one.
        unsafe { libc::pthread_mutex_unlock(pointer(&self.memory)) };
    }
}

fn pointer(memory: &Memory) -> *mut libc::pthread_mutex_t {
    assert!(memory.access() == Access::Shared && memory.len() >= END, "no memory with a lock");
    // SAFETY: the memory reaches beyond the mutex.
    unsafe { memory.start().add(AT).cast().as_ptr() }
}

fn until(left: Duration) -> libc::timespec {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(left);
    libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
