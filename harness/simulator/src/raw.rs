//! The kernel's calls, as they are, and the server's memory.

use core::arch::asm;

/// Asks the kernel.
///
/// # Safety
/// As the call itself.
#[must_use]
pub unsafe fn call(number: i64, a: [u64; 6]) -> i64 {
    let answer: i64;
    // SAFETY: the caller answers for the call; the kernel changes only what is named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// Bytes of the server's memory.
///
/// # Safety
/// They must be mapped; a fault is answered by the harness with EFAULT.
#[must_use]
pub unsafe fn bytes<'a>(address: u64, length: u64) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts(address as *const u8, length as usize) }
}

/// Bytes of the server's memory, to be written.
///
/// # Safety
/// As [`bytes`], and nothing else may hold them.
#[must_use]
pub unsafe fn bytes_mut<'a>(address: u64, length: u64) -> &'a mut [u8] {
    if length == 0 {
        return &mut [];
    }
    // SAFETY: as above.
    unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length as usize) }
}

/// Reads a value from the server's memory.
///
/// # Safety
/// As [`bytes`]; every bit pattern of `T` must be valid.
#[must_use]
pub unsafe fn load<T: Copy>(address: u64) -> T {
    // SAFETY: as above.
    unsafe { (address as *const T).read_unaligned() }
}

/// Writes a value into the server's memory.
///
/// # Safety
/// As [`bytes_mut`].
pub unsafe fn store<T>(address: u64, value: T) {
    // SAFETY: as above.
    unsafe { (address as *mut T).write_unaligned(value) }
}

/// The length of a C string.
///
/// # Safety
/// As [`bytes`].
#[must_use]
pub unsafe fn length(address: u64) -> u64 {
    let mut length = 0;
    // SAFETY: as above.
    while unsafe { load::<u8>(address + length) } != 0 {
        length += 1;
    }
    length
}
