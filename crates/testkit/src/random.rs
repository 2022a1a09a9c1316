//! Randomness for keys, nonces and identifiers.

/// `N` random bytes from the operating system.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut raw = [0; N];
    fill(&mut raw);
    raw
}

/// Fills `raw` with random bytes from the operating system.
pub(crate) fn fill(raw: &mut [u8]) {
    if let Err(error) = getrandom::fill(raw) {
        // Nothing that follows would be worth its name; there is no sensible way on.
        tracing::error!(%error, "the operating system gives no randomness");
        std::process::abort();
    }
}

/// `2 * N` random hex digits.
pub(crate) fn hex<const N: usize>() -> String {
    bytes::<N>().iter().map(|byte| format!("{byte:02x}")).collect()
}
