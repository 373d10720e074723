//! The system's allocator, asked to keep what it has.
#![allow(unsafe_code, reason = "see the argument at the call")]

/// Asks glibc's allocator not to give memory back to the system between two steps, which take the same
/// tensors: to get it again costs a page fault for every 4 KiB. The process then keeps the memory of its
/// largest step, as it would with most other allocators. Other allocators and systems are left as they are.
pub(crate) fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: mallopt takes two numbers and holds the allocator's own lock while it notes the second one;
        // it refuses, by 0, what it doesn't know or want. Memory that was handed out before stays as it is.
        let set = |name, value| unsafe { libc::mallopt(name, value) } != 0;
        // Tensors of up to 1 GiB come from what is kept; older versions allow no more than 32 MiB. Either
        // setting ends the allocator's own adaptation: without the first one the second would do harm.
        if set(libc::M_MMAP_THRESHOLD, 1 << 30) || set(libc::M_MMAP_THRESHOLD, 32 << 20) {
            set(libc::M_TRIM_THRESHOLD, i32::MAX);
        }
    }
}
