//! Peers that exist on paper only, to make a netmap large.

use tailnet_wire::{
    control::{Hostinfo, NetInfo, NodeId},
    key::{MachinePublic, NodePublic},
};

use super::{REGION, Tailnet, UnknownError};
use crate::{random, registry::Owner};

impl Tailnet {
    /// Adds `count` online nodes of `user` that nothing answers for. The policy decides who sees them.
    ///
    /// # Errors
    /// [`UnknownError::User`].
    pub fn add_fake_peers(&self, user: &str, count: usize) -> Result<Vec<NodeId>, UnknownError> {
        let wall = self.registry.wall();
        self.registry.change(|state| {
            let user = state
                .user(user)
                .cloned()
                .ok_or_else(|| UnknownError::User(user.to_owned()))?;
            let mut ids = Vec::with_capacity(count);
            for _ in 0..count {
                let id = state.next_id();
                let hostinfo = Hostinfo {
                    hostname: format!("fake-{id}"),
                    net_info: Some(NetInfo {
                        preferred_derp: REGION,
                        ..NetInfo::default()
                    }),
                    ..Hostinfo::default()
                };
                let machine = MachinePublic::from_bytes(random::bytes());
                let key = NodePublic::from_bytes(random::bytes());
                let node = state.add_named(machine, key, Owner::User(user.clone()), hostinfo, wall);
                node.fake = true;
                ids.push(node.id);
            }
            Ok(ids)
        })
    }
}
