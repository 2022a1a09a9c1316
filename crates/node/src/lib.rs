//! An embeddable tailnet node, in userspace and without root, that knows who is on every connection.
//!
//! [`Node::start`] joins a tailnet run by Headscale or Tailscale. [`Node::listen`] opens a port on the node's tailnet
//! addresses; each accepted [`Conn`] is a [`Stream`] of bytes and a [`Caller`]: the peer whose WireGuard key decrypted
//! them. [`Caller::identity`] reads afresh, at each call, who that is and what the tailnet policy grants it here. When the
//! tailnet withdraws a peer or its access, connections are reset and [`Caller::withdrawn`] resolves.
//!
//! The protocol lives in `tailnet-engine`, without I/O; this crate gives it sockets, a clock and tasks.

mod caller;
mod clock;
mod config;
pub mod control;
mod demux;
pub mod derp;
mod disco;
mod errand;
mod identity;
mod initiations;
mod join;
mod listener;
mod live;
mod netcheck;
mod node;
mod peer_task;
mod peers;
mod ports;
mod shared;
pub mod state;
mod status;
mod stream;
mod supervisor;
pub mod tls;
mod trouble;
mod udp;
mod udp_socket;

pub use tailnet_engine::peer::{ConnError, ConnectError, PingKind, SendError};
pub use tailnet_wire::{
    control::{NodeId, UserId},
    key::{MachinePublic, NodePublic},
};

pub use self::{
    caller::Caller,
    config::{AuthKey, NodeConfig},
    identity::{Capabilities, Identity, Who, Withdrawn},
    join::StartError,
    listener::{Closed, Conn, Listener},
    node::{DialError, Node, PingError},
    ports::ListenError,
    shared::Unroutable,
    status::{PeerStatus, Status, StatusCounters},
    stream::Stream,
    supervisor::NodeState,
    udp_socket::{Arrived, UdpSocket},
};
