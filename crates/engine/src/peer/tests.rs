//! A pair of peers over a link that may lose, reorder, repeat and delay, on a clock of the test's own.

mod access;
mod floods;
mod other;
mod pair;
mod tcp;
