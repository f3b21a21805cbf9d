//! The `backstay` program: parse, run, turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    keep_memory();
    backstay::cli::main()
}

/// Has the allocator keep and share what is freed. Packs are megabytes each, and glibc gives such a block back to the
/// system at once: a restore of 5 GiB then spends more time in page faults than in decryption (18.7 s and 1.3 million
/// faults, against 10.5 s and 46,000), and each thread keeps a heap of its own besides (238 against 200 MiB).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    /// As large as glibc lets it be; no block of ours is larger.
    const MAP_ABOVE: i32 = 32 << 20;
    const KEEP: i32 = 256 << 20;
    #[allow(unsafe_code)]
    // SAFETY: mallopt takes two numbers, and no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAP_ABOVE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEEP);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}
