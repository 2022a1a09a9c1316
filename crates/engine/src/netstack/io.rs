//! What applications do with connections.

use std::task::{Context, Poll};

use super::{
    ConnError, ConnId, FlowKey, Netstack,
    flow::{Flow, Origin},
    socket::Read,
};

impl Netstack {
    /// The next connection that a peer has opened: its id and both ends.
    pub(crate) fn poll_accepted(&mut self) -> Option<(ConnId, FlowKey)> {
        self.accepted.pop_front()
    }

    /// Reads into `out`. 0 bytes mean that the peer has closed its half.
    pub(crate) fn poll_read(
        &mut self,
        id: ConnId,
        cx: &mut Context<'_>,
        out: &mut [u8],
    ) -> Poll<Result<usize, ConnError>> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Poll::Ready(Err(ConnError::Closed));
        };
        if let Some(error) = flow.error {
            return Poll::Ready(Err(error));
        }
        let buffer = flow.buffer();
        let Some(socket) = &mut flow.socket else {
            return Poll::Ready(Ok(0));
        };
        if out.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match socket.read(out) {
            Read::Bytes(n) => {
                flow.unreported += n;
                if flow.unreported >= buffer / 4 {
                    self.schedule.touch(id, &mut flow.appointment);
                }
                Poll::Ready(Ok(n))
            }
            Read::Finished => Poll::Ready(Ok(0)),
            Read::Nothing | Read::NotOpen => {
                socket.on_readable(cx.waker());
                Poll::Pending
            }
        }
    }

    /// How many bytes a read would find now.
    pub(crate) fn readable(&mut self, id: ConnId) -> usize {
        let socket = self.flows.get_mut(id).and_then(|flow| flow.socket.as_ref());
        socket.map_or(0, |socket| socket.receive_queue())
    }

    /// Waits for the end of the three-way handshake.
    pub(crate) fn poll_connected(&mut self, id: ConnId, cx: &mut Context<'_>) -> Poll<Result<(), ConnError>> {
        let flow = self.flows.get_mut(id).ok_or(ConnError::Closed)?;
        match (flow.error, &mut flow.socket) {
            (Some(error), _) => Poll::Ready(Err(error)),
            (None, Some(socket)) if !flow.open => {
                socket.on_writable(cx.waker());
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    /// The peer's policy has refused the SYN of a connection that we dial.
    pub(crate) fn handle_reject(&mut self, key: &FlowKey) {
        let dialing = |flow: &&mut Flow| flow.origin == Origin::Us && !flow.open;
        if let Some(id) = self.flows.find(key)
            && self.flows.get_mut(id).filter(dialing).is_some()
        {
            self.abort(id, ConnError::Refused);
        }
    }

    /// Takes what fits of `data` into the send buffer.
    pub(crate) fn poll_write(
        &mut self,
        id: ConnId,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, ConnError>> {
        let Some(flow) = self.flows.get_mut(id) else {
            return Poll::Ready(Err(ConnError::Closed));
        };
        if let Some(error) = flow.error {
            return Poll::Ready(Err(error));
        }
        let (false, Some(socket)) = (flow.shut, &mut flow.socket) else {
            return Poll::Ready(Err(ConnError::Closed));
        };
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match socket.write(data) {
            Some(n) if n > 0 => {
                self.schedule.touch(id, &mut flow.appointment);
                Poll::Ready(Ok(n))
            }
            _ => {
                socket.on_writable(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Closes our half: what was written is still delivered, then a FIN.
    pub(crate) fn shutdown(&mut self, id: ConnId) -> Result<(), ConnError> {
        let flow = self.flows.get_mut(id).ok_or(ConnError::Closed)?;
        if let Some(error) = flow.error {
            return Err(error);
        }
        if let Some(socket) = &mut flow.socket
            && !flow.shut
        {
            flow.shut = true;
            socket.close();
            self.schedule.touch(id, &mut flow.appointment);
        }
        Ok(())
    }

    /// Resets the connection. The id stays valid until [`release`](Self::release).
    pub(crate) fn abort(&mut self, id: ConnId, error: ConnError) {
        if let Some(flow) = self.flows.get_mut(id)
            && let Some(socket) = &mut flow.socket
        {
            flow.error.get_or_insert(error);
            socket.abort();
            self.schedule.touch(id, &mut flow.appointment);
        }
    }

    /// The application lets go of the connection. What it wrote is still delivered; a peer that sends more, or whose
    /// data was not read, gets a reset.
    pub(crate) fn release(&mut self, id: ConnId) {
        let Some(flow) = self.flows.get_mut(id) else {
            return;
        };
        flow.released = true;
        let Some(socket) = &mut flow.socket else {
            self.flows.remove(id);
            return;
        };
        if flow.open && flow.error.is_none() && socket.receive_queue() == 0 {
            flow.shut = true;
            socket.close();
        } else {
            flow.error.get_or_insert(ConnError::Closed);
            socket.abort();
        }
        self.schedule.touch(id, &mut flow.appointment);
    }
}
