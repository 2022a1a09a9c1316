//! What `snow` needs from outside: the ephemeral key comes from the caller's random source, so that a handshake is a
//! function of its arguments.

use rand_core::RngCore;
use snow::{
    Builder, Error, HandshakeState,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroizing;

use super::NoiseError;
use crate::key::{MachinePrivate, MachinePublic};

const SUITE: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &str = "Tailscale Control Protocol v";

/// Starts the initiator's half when the responder's key is given, the responder's half otherwise.
pub(super) fn start(
    version: u16,
    private: &MachinePrivate,
    remote: Option<&MachinePublic>,
    rng: &mut dyn RngCore,
) -> Result<HandshakeState, NoiseError> {
    let mut ephemeral = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *ephemeral);
    let secret = Zeroizing::new(private.to_x25519().to_bytes());
    let prologue = format!("{PROLOGUE}{version}");
    let build = || -> Result<HandshakeState, Error> {
        let resolver = Box::new(Resolver {
            ephemeral,
            library: DefaultResolver,
        });
        let builder = Builder::with_resolver(SUITE.parse()?, resolver)
            .prologue(prologue.as_bytes())?
            .local_private_key(&*secret)?;
        match remote {
            Some(remote) => builder.remote_public_key(remote.as_bytes())?.build_initiator(),
            None => builder.build_responder(),
        }
    };
    build().map_err(|_| NoiseError::Handshake)
}

struct Resolver {
    ephemeral: Zeroizing<[u8; 32]>,
    library: DefaultResolver,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(self.ephemeral.clone()))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        self.library.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        self.library.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        self.library.resolve_cipher(choice)
    }
}

/// Gives its 32 bytes once: each half of Noise IK makes one ephemeral key.
struct Once(Option<Zeroizing<[u8; 32]>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        match self.0.take() {
            Some(bytes) if bytes.len() == dest.len() => {
                dest.copy_from_slice(&*bytes);
                Ok(())
            }
            _ => Err(Error::Rng),
        }
    }
}
