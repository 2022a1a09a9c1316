//! What smoltcp sees as its network device: one packet in, packets out through an [`Egress`].
//!
//! A device lives for one call. On the way in it hands over the packet that was just decrypted; on the way out it lets
//! smoltcp write into a scratch buffer and passes that on, so that a packet is encrypted while it is still in the
//! first-level cache and no queue lies between TCP and the tunnel.

use smoltcp::{
    phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken},
    time::Instant,
};

use super::{Egress, MTU, overrun::Overrun};

pub(super) struct Wire<'a, E> {
    incoming: Option<&'a [u8]>,
    egress: &'a mut E,
    scratch: &'a mut [u8; MTU],
    overrun: &'a mut Overrun,
}

impl<'a, E: Egress> Wire<'a, E> {
    pub(super) fn new(
        incoming: Option<&'a [u8]>,
        egress: &'a mut E,
        scratch: &'a mut [u8; MTU],
        overrun: &'a mut Overrun,
    ) -> Self {
        Self {
            incoming,
            egress,
            scratch,
            overrun,
        }
    }
}

impl<E: Egress> Device for Wire<'_, E> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t, E>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let incoming = Incoming(self.incoming.take()?);
        let outgoing = Outgoing {
            egress: self.egress,
            scratch: self.scratch,
            overrun: self.overrun,
        };
        Some((incoming, outgoing))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        self.egress.is_ready().then_some(Outgoing {
            egress: self.egress,
            scratch: self.scratch,
            overrun: self.overrun,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities()
    }
}

/// The tunnel has authenticated every byte that comes in, so checksums are only computed, not verified.
pub(super) fn capabilities() -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = MTU;
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.tcp = Checksum::Tx;
    capabilities
}

pub(super) struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

pub(super) struct Outgoing<'a, E> {
    egress: &'a mut E,
    scratch: &'a mut [u8; MTU],
    overrun: &'a mut Overrun,
}

impl<E: Egress> TxToken for Outgoing<'_, E> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp never asks for more than the MTU that it was told.
        let packet = &mut self.scratch[..len.min(MTU)];
        let result = f(packet);
        self.overrun.note_sent(packet);
        self.egress.send(packet);
        result
    }
}
