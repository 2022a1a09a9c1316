use proptest::prelude::*;

use super::*;

fn zstd_frame(text: &[u8]) -> Vec<u8> {
    write_frame(&zstd::encode_all(text, 1).unwrap())
}

fn drain(frames: &mut MapFrames) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| frames.next().unwrap()).collect()
}

#[test]
fn the_length_is_little_endian() {
    assert_eq!(write_frame(b"{}"), b"\x02\0\0\0{}");
}

#[test]
fn an_announced_length_beyond_the_limit_is_refused_before_anything_is_buffered_for_it() {
    let mut frames = MapFrames::new(Compression::None);
    frames.push(&u32::MAX.to_le_bytes());
    assert!(matches!(frames.next(), Err(MapFrameError::TooLong(_))));
}

#[test]
fn a_bomb_is_cut_off() {
    let mut frames = MapFrames {
        max_message: 1 << 20,
        ..MapFrames::new(Compression::Zstd)
    };
    frames.push(&zstd_frame(&vec![b' '; 8 << 20]));
    assert!(frames.next().is_err());
    frames.push(&zstd_frame(&vec![b' '; 1 << 20]));
    assert_eq!(frames.next().unwrap().unwrap().len(), 1 << 20);
}

#[test]
fn what_is_not_zstd_is_an_error() {
    let mut frames = MapFrames::new(Compression::Zstd);
    frames.push(&write_frame(b"{\"KeepAlive\":true}"));
    assert!(matches!(frames.next(), Err(MapFrameError::Zstd(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..6),
        cut in 1usize..700,
        compressed in any::<bool>(),
    ) {
        let mut frames = MapFrames::new(if compressed { Compression::Zstd } else { Compression::None });
        let stream: Vec<u8> =
            texts.iter().flat_map(|t| if compressed { zstd_frame(t) } else { write_frame(t) }).collect();
        let mut got = Vec::new();
        for part in stream.chunks(cut) {
            frames.push(part);
            got.extend(drain(&mut frames));
        }
        prop_assert_eq!(got, texts);
    }

    #[test]
    fn flipped_bits_never_panic(seed in any::<u64>(), flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6)) {
        let text: Vec<u8> = (0..4000u64).flat_map(|i| (i.wrapping_mul(seed | 1) % 97).to_string().into_bytes()).collect();
        let mut stream = zstd_frame(&text);
        for (at, bit) in flips {
            let at = 4 + at.index(stream.len() - 4);
            stream[at] ^= 1 << bit;
        }
        let mut frames = MapFrames { max_message: 1 << 20, ..MapFrames::new(Compression::Zstd) };
        frames.push(&stream);
        let _ = frames.next();
    }
}
