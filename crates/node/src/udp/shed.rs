//! A socket filter (classic BPF, Linux) that lets only a share of WireGuard's initiations through.

use std::io;

use socket2::{SockFilter, SockRef};

/// The share that is everything.
pub(crate) const ALL: u32 = u32::MAX;

// linux/bpf_common.h and linux/filter.h: operations, and the "addresses" beyond the packet.
const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
const RANDOM: u32 = 0xffff_f000 + 56;
const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// The filter of a UDP socket sees the UDP header first.
const UDP_HEADER_LEN: u32 = 8;
/// The first four bytes of an initiation: type 1, little-endian, read as big-endian.
const INITIATION: u32 = 0x0100_0000;

/// Sets the share (of [`ALL`]) of initiations that the kernel delivers.
pub(super) fn shed(socket: SockRef<'_>, share: u32) -> io::Result<()> {
    if share == ALL {
        return socket.detach_filter();
    }
    socket.attach_filter(&[
        SockFilter::new(LOAD_WORD, 0, 0, UDP_HEADER_LEN),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, INITIATION),
        SockFilter::new(LOAD_WORD, 0, 0, RANDOM),
        SockFilter::new(JUMP_IF_AT_LEAST, 1, 0, share),
        SockFilter::new(RETURN, 0, 0, KEEP),
        SockFilter::new(RETURN, 0, 0, DROP),
    ])
}
