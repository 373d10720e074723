//! The system's allocator, asked to keep what it has.
#![allow(unsafe_code, reason = "see the argument at the call")]

/// Asks glibc's allocator not to give memory back to the system between two steps, which take the same tensors: to get it
/// again costs a page fault for every 4 KiB. The process then keeps the memory of its largest step, as it would with most
/// other allocators. Other allocators and systems are left as they are.
pub(crate) fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Tensors of up to 1 GiB come from what is kept, and up to 2 GiB of it may be unused.
        let settings = [(libc::M_MMAP_THRESHOLD, 1 << 30), (libc::M_TRIM_THRESHOLD, i32::MAX)];
        for (name, value) in settings {
            // SAFETY: mallopt takes two numbers and holds the allocator's own lock while it notes the second one; it
            // refuses what it doesn't know. Memory that was handed out before stays as it is.
            unsafe { libc::mallopt(name, value) };
        }
    }
}
