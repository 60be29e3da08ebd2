//! Where a signal came from that ends the tests. A crash in the C library of the Kafka client would show nothing but its number.

use std::backtrace::Backtrace;
use std::ffi::c_int;
use std::io::Write;
use std::sync::Once;

/// Seconds that telling may take. The heap may be broken, and its locks may be held.
const LIMIT_SECONDS: u32 = 30;

/// Shows the stack of a thread that gets SIGSEGV, SIGBUS or SIGABRT, on standard error.
pub fn show_stacks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT] {
            // SAFETY: all of the structure is set, and `crashed` fits its signature. What it does is not allowed in a handler, but the process
            // is lost in any case, and an alarm ends it.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = crashed as extern "C" fn(c_int) as usize;
                action.sa_flags = libc::SA_RESETHAND;
                assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0, "signal {signal}");
            }
        }
    });
}

extern "C" fn crashed(signal: c_int) {
    // SAFETY: both calls only take numbers.
    unsafe { libc::alarm(LIMIT_SECONDS) };
    let thread = std::fs::read_to_string("/proc/thread-self/comm").unwrap_or_default();
    // Not by a macro, whose output belongs to the test of the thread.
    let told = writeln!(std::io::stderr(), "signal {signal} in thread {thread}{}", Backtrace::force_capture());
    drop(told);
    unsafe { libc::raise(signal) };
}
