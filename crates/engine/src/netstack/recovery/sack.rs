//! Selective acknowledgments (RFC 2018) and arithmetic on sequence numbers.

const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const SACK: u8 = 5;

/// How far `to` lies behind `from`; negative when it lies before it.
pub(super) fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from) as i32
}

/// The later of two sequence numbers.
pub(super) fn later(a: u32, b: u32) -> u32 {
    if distance(a, b) > 0 { b } else { a }
}

/// Where the highest of the blocks ends that TCP `options` name, or `known` if that is later.
pub(super) fn highest_end(mut options: &[u8], known: Option<u32>) -> Option<u32> {
    let mut highest = known;
    while let Some((kind, rest)) = options.split_first() {
        if *kind == END {
            break;
        }
        if *kind == NO_OPERATION {
            options = rest;
            continue;
        }
        let Some(len) = rest.first().map(|len| usize::from(*len)).filter(|len| *len >= 2) else {
            break;
        };
        let Some(body) = options.get(2..len) else {
            break;
        };
        if *kind == SACK {
            for [_, _, _, _, end @ ..] in body.as_chunks::<8>().0 {
                let end = u32::from_be_bytes(*end);
                highest = Some(highest.map_or(end, |highest| later(highest, end)));
            }
        }
        options = &options[len..];
    }
    highest
}
