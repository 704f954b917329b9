//! Signs the entries of a control topic and checks signatures (interface §1, `control.secret`).
//!
//! The signature covers the region whose topic it is and the key, so that an entry that was signed once is refused
//! under another key and in another region. It does not cover time: who may write to the topic can put an older entry
//! of the same key back, or hide one behind an unsigned one. Rights on the topic must keep others out in the first place.

use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::model::names::RegionName;

/// The header that carries the signature, lower-case hex.
pub const SIGNATURE_HEADER: &str = "ls_sig";

/// Keeps these signatures apart from whatever else is signed with the same secret.
const DOMAIN: &[u8] = b"longshore control entry 1";

/// Signs and checks with one secret for one region's topic.
#[derive(Clone)]
pub struct Signer {
    keyed: Hmac<Sha256>,
}

impl Signer {
    /// A signer for `region`'s control topic.
    pub fn new(secret: &SecretString, region: &RegionName) -> Self {
        let mut keyed = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes())
            .expect("HMAC-SHA256 takes keys of every length");
        keyed.update(DOMAIN);
        part(&mut keyed, region.as_str().as_bytes());
        Self { keyed }
    }

    /// The header value for an entry; `None` is a deletion.
    pub fn sign(&self, key: &[u8], value: Option<&[u8]>) -> String {
        hex::encode(self.over(key, value).finalize().into_bytes())
    }

    /// Whether `signature` is this entry's. Takes the same time wherever a wrong one differs.
    pub fn verifies(&self, key: &[u8], value: Option<&[u8]>, signature: &[u8]) -> bool {
        hex::decode(signature).is_ok_and(|bytes| self.over(key, value).verify_slice(&bytes).is_ok())
    }

    fn over(&self, key: &[u8], value: Option<&[u8]>) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        part(&mut mac, key);
        match value {
            Some(value) => {
                mac.update(b"=");
                part(&mut mac, value);
            }
            None => mac.update(b"-"),
        }
        mac
    }
}

/// With its length before it, so that no two splits of the same bytes have one signature.
fn part(mac: &mut Hmac<Sha256>, bytes: &[u8]) {
    mac.update(&(bytes.len() as u64).to_be_bytes());
    mac.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer(region: &str) -> Signer {
        Signer::new(&SecretString::from("s3cret"), &RegionName::new(region))
    }

    #[test]
    fn a_signature_fits_its_entry_and_no_other() {
        let hz = signer("hz");
        let signature = hz.sign(b"pause/hz/sh", Some(b"{}"));
        assert!(hz.verifies(b"pause/hz/sh", Some(b"{}"), signature.as_bytes()));
        assert!(!hz.verifies(b"pause/hz/sz", Some(b"{}"), signature.as_bytes()), "another key");
        assert!(!hz.verifies(b"pause/hz/sh", Some(b"{ }"), signature.as_bytes()), "another value");
        assert!(!hz.verifies(b"pause/hz/sh", None, signature.as_bytes()), "a deletion");
        assert!(!signer("sh").verifies(b"pause/hz/sh", Some(b"{}"), signature.as_bytes()), "another region");
        assert!(!hz.verifies(b"pause/hz/sh", Some(b"{}"), &signature.as_bytes()[2..]), "cut");
        assert!(!hz.verifies(b"pause/hz/sh", Some(b"{}"), b"no hex"), "no hex");
    }

    #[test]
    fn moving_a_byte_from_key_to_value_changes_the_signature() {
        let hz = signer("hz");
        assert_ne!(hz.sign(b"ab", Some(b"c")), hz.sign(b"a", Some(b"bc")));
        assert_ne!(hz.sign(b"a", Some(b"")), hz.sign(b"a", None));
    }
}
