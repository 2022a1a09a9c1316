//! What several unit tests need.

use core::time::Duration;

use rand_core::RngCore;

use crate::{
    caller::{Caller, IdentityRules, Who},
    policy::Policy,
    register,
};

/// Random bytes that anybody can predict: 0, 1, 2, …
#[derive(Default)]
pub(crate) struct Counting(u8);

impl RngCore for Counting {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.0;
            self.0 = self.0.wrapping_add(1);
        }
    }
}

/// A person's node that may register.
pub(crate) fn alice() -> Caller {
    Caller {
        node_id: "nAlice".into(),
        node_name: "laptop.example.ts.net".into(),
        node_key: "nodekey:aa".into(),
        addresses: Vec::new(),
        who: Who::User {
            id: 1,
            login: "alice".into(),
            display_name: "Alice".into(),
            picture: String::new(),
        },
        routes: false,
        shared: false,
        policy: Policy::parse([r#"{"allow_dcr":true}"#]),
        netmap_age: Duration::ZERO,
    }
}

/// A tagged node that may register.
pub(crate) fn tagged() -> Caller {
    Caller {
        node_id: "nTagged".into(),
        who: Who::Tagged(vec!["tag:app".into()]),
        ..alice()
    }
}

/// What a default installation says about registration.
pub(crate) fn registration_rules() -> register::Rules {
    register::Rules {
        mode: register::Mode::Capability,
        max_clients_per_owner: 100,
        own_tags: vec!["tag:internal-idp".into()],
        identity: IdentityRules {
            netmap_max_age: Duration::from_secs(86_400),
            routers_are_users: false,
        },
    }
}
