//! Checks the signatures of clients, on aws-lc.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_oauth::jwks::{AssertionAlg, Material, Signatures};

/// The library that does the mathematics.
pub(crate) struct AwsLc;

impl Signatures for AwsLc {
    fn verify(&self, alg: AssertionAlg, key: &Material, message: &[u8], signature: &[u8]) -> bool {
        valid(alg, key, message, signature).is_some()
    }
}

fn valid(alg: AssertionAlg, key: &Material, message: &[u8], signature: &[u8]) -> Option<()> {
    let decode = |text: &String| URL_SAFE_NO_PAD.decode(text).ok();
    match (alg, key) {
        (AssertionAlg::Es256, Material::Ec { x, y, .. }) => {
            // SEC 1 2.3.3: 4 says that both coordinates follow.
            let point = [vec![4], decode(x)?, decode(y)?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
        }
        (AssertionAlg::EdDsa, Material::Okp { x, .. }) => {
            UnparsedPublicKey::new(&ED25519, decode(x)?).verify(message, signature)
        }
        (AssertionAlg::Ps256 | AssertionAlg::Rs256, Material::Rsa { n, e }) => {
            let parameters = match alg {
                AssertionAlg::Ps256 => &RSA_PSS_2048_8192_SHA256,
                _ => &RSA_PKCS1_2048_8192_SHA256,
            };
            let (n, e) = (decode(n)?, decode(e)?);
            RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
        }
        _ => return None,
    }
    .ok()
}
