//! Who may sign a release: Ed25519 keys and signatures of minisign's kind, which Debian's `minisign` makes and verifies.
//!
//! Guarantees: a signature holds only by a key that is trusted and not revoked, over the whole of the bytes (hashed by BLAKE2b, as
//! minisign does; its older form without is refused), and with its trusted comment unchanged.

use std::io::Cursor;

use anyhow::{Context, Result, anyhow, bail, ensure};
use minisign::{PublicKey, SignatureBox};

/// A signature of more bytes is refused unread.
pub const MAX_SIGNATURE: usize = 4 << 10;
/// Bytes of a key's number, behind the two that name the algorithm.
const NUMBER: std::ops::Range<usize> = 2..10;

/// Whether a text has the form of a signature: comment, 74 bytes, trusted comment, 64 bytes. minisign 0.10 panics at a
/// second signature of another length.
fn is_proper(signature: &str) -> bool {
    let encoded = |line: &str, letters: usize, padding: &str| {
        let digits = line.strip_suffix(padding).unwrap_or_default();
        digits.len() == letters && digits.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    let lines: Vec<&str> = signature.lines().collect();
    matches!(lines[..], [_, first, comment, second]
        if encoded(first, 99, "=") && comment.starts_with("trusted comment: ") && encoded(second, 86, "=="))
}

/// A key's number, as minisign prints it: 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// Out of the text that minisign prints.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &str) -> Result<Self> {
        let number = u64::from_str_radix(text, 16)
            .ok()
            .filter(|_| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit()));
        Ok(Self(number.context("a key's number is 16 hexadecimal digits")?.to_le_bytes()))
    }

    /// Of a public key.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        let mut number = [0; 8];
        number.copy_from_slice(&key.to_bytes()[NUMBER]);
        Self(number)
    }
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016X}", u64::from_le_bytes(self.0))
    }
}

/// A public key: the line of a `.pub` file that is no comment, 56 letters of base64.
///
/// # Errors
/// It is none.
pub fn public_key(text: &str) -> Result<PublicKey> {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    PublicKey::from_base64(line).map_err(|_| anyhow!("a public key is the second line of minisign's .pub file (RW…)"))
}

/// The keys that a gateway trusts.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<PublicKey>,
    revoked: Vec<KeyId>,
}

impl Keyring {
    /// Of trusted and revoked ones; a key in both is revoked.
    #[must_use]
    pub fn new(keys: Vec<PublicKey>, revoked: Vec<KeyId>) -> Self {
        Self { keys, revoked }
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whose signature it is, if it holds.
    ///
    /// # Errors
    /// It does not, and why.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<KeyId> {
        ensure!(!self.keys.is_empty(), "no key is trusted here: name one in update.keys");
        ensure!(
            signature.len() <= MAX_SIGNATURE,
            "the signature has {} bytes, {MAX_SIGNATURE} are allowed",
            signature.len()
        );
        ensure!(is_proper(signature), "it is no signature of minisign's: four lines");
        let signature =
            SignatureBox::from_string(signature).map_err(|e| anyhow!("it is no signature of minisign's: {e}"))?;
        let signer = signature.keynum().try_into().map(KeyId).context("the signature names no key")?;
        ensure!(!self.revoked.contains(&signer), "it is signed with the key {signer}, which is revoked");
        let Some(key) = self.keys.iter().find(|key| KeyId::of(key) == signer) else {
            let known: Vec<String> = self.keys.iter().map(|key| KeyId::of(key).to_string()).collect();
            bail!("it is signed with the key {signer}, which is not trusted here; trusted are {}", known.join(", "));
        };
        minisign::verify(key, &signature, Cursor::new(bytes), true, false, false)
            .map_err(|e| anyhow!("the signature by {signer} does not hold: {e}"))?;
        Ok(signer)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use minisign::KeyPair;

    pub(crate) fn pair() -> KeyPair {
        KeyPair::generate_unencrypted_keypair().unwrap()
    }

    pub(crate) fn sign(pair: &KeyPair, bytes: &[u8]) -> String {
        minisign::sign(Some(&pair.pk), &pair.sk, bytes, Some("trusted"), None).unwrap().to_string()
    }

    #[test]
    fn only_a_trusted_key_that_is_not_revoked_holds() {
        let (one, two) = (pair(), pair());
        let ring = Keyring::new(vec![one.pk.clone()], Vec::new());
        let why =
            |ring: &Keyring, bytes: &[u8], signature: &str| format!("{:#}", ring.verify(bytes, signature).unwrap_err());
        assert_eq!(ring.verify(b"text", &sign(&one, b"text")).unwrap(), KeyId::of(&one.pk));
        assert!(why(&ring, b"Text", &sign(&one, b"text")).contains("does not hold"));
        assert!(why(&ring, b"text", &sign(&two, b"text")).contains("not trusted here; trusted are"));
        assert!(why(&ring, b"text", &sign(&one, b"other")).contains("does not hold"), "swapped signatures");
        assert!(why(&ring, b"text", "").contains("no signature"));
        assert!(why(&ring, b"text", &"x".repeat(10_000)).contains("has 10000 bytes"));
        assert!(why(&Keyring::default(), b"text", &sign(&one, b"text")).contains("update.keys"));
        let revoked = Keyring::new(vec![one.pk.clone(), two.pk.clone()], vec![KeyId::of(&one.pk)]);
        assert!(why(&revoked, b"text", &sign(&one, b"text")).contains("revoked"));
        assert!(revoked.verify(b"text", &sign(&two, b"text")).is_ok(), "keys can be rotated");
        assert_eq!(KeyId::new(&KeyId::of(&two.pk).to_string()).unwrap(), KeyId::of(&two.pk));
        assert!(KeyId::new("12").is_err() && KeyId::new("+123456789abcdef").is_err());
    }

    #[test]
    fn a_signature_of_which_any_bit_was_changed_does_not_hold() {
        let pair = pair();
        let ring = Keyring::new(vec![pair.pk.clone()], Vec::new());
        let signature = sign(&pair, b"text");
        let begin = signature.find('\n').unwrap(); // the first line is a comment that nobody trusts
        for at in begin..signature.trim_end().len() {
            for bit in 0..7 {
                let mut bytes = signature.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                // A line's end may become another kind of white space, and padding that carries no bits may be read alike.
                if let Ok(signer) = ring.verify(b"text", &text) {
                    let same = SignatureBox::from_string(&text).unwrap().to_bytes();
                    assert_eq!(same, SignatureBox::from_string(&signature).unwrap().to_bytes(), "{at} {bit} {signer}");
                }
            }
        }
    }
}
