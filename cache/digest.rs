//! Digests and keys: BLAKE3 over bytes, and over canonical documents under a versioned context. Never looks at
//! what the bytes mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The context under which recipe documents are hashed. Another layout of the document is another context.
pub const RECIPE_CONTEXT: &str = "plumb 2026 recipe key v1";
/// The context under which action documents are hashed.
pub const ACTION_CONTEXT: &str = "plumb 2026 action key v1";

/// The BLAKE3 digest of some bytes; written as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lowercase hex digits, found `{0}`")]
pub struct DigestError(pub String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// The digest whose 32 bytes are these.
    pub fn from_bytes(bytes: [u8; 32]) -> Digest {
        Digest(bytes)
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first twelve hex digits: enough for a human, never for a lookup.
    pub fn short(&self) -> String {
        self.hex()[..12].to_owned()
    }

    /// Its text, on the stack.
    pub(crate) fn hex(&self) -> impl std::ops::Deref<Target = str> + use<> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// One text form only: capitals are refused, so that equal digests are equal texts.
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        bytes_of(text.as_bytes()).map(Digest).ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// The bytes of exactly so many lowercase hex digits. A record holds a dozen digests, and a plan reads thousands.
pub(crate) fn bytes_of<const N: usize>(hex: &[u8]) -> Option<[u8; N]> {
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&self.hex()),
            false => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 32]>::deserialize(deserializer).map(Digest);
        }
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest of a document under a context, so that equal bytes of two kinds of document never share a key.
pub fn derive_key(context: &'static str, bytes: &[u8]) -> Digest {
    Digest(blake3::derive_key(context, bytes))
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $context:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// The key of this canonical document.
            pub fn of_document(document: &str) -> $name {
                $name(derive_key($context, document.as_bytes()))
            }

            /// The key that was stored as this digest.
            pub(crate) fn of_digest(digest: Digest) -> $name {
                $name(digest)
            }

            /// The key's digest.
            pub fn digest(&self) -> Digest {
                self.0
            }

            /// The first twelve hex digits, for a human.
            pub fn short(&self) -> String {
                self.0.short()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = DigestError;

            fn from_str(text: &str) -> Result<$name, DigestError> {
                text.parse().map($name)
            }
        }
    };
}

key! {
    /// The key of a step known before anything ran: its document names inputs by their producers' recipe keys.
    RecipeKey, RECIPE_CONTEXT
}
key! {
    /// The key of a step on its actual inputs: its document names inputs by the digests of their bytes.
    ActionKey, ACTION_CONTEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_text_and_nothing_else() {
        let digest = Digest::of(b"plumb");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("12".parse::<Digest>().is_err());
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Digest>("\"zz\"").is_err());
    }

    #[test]
    fn keys_never_move() {
        let document = "{\"kind\":\"data.pairs\"}";
        let keys = format!("{}\n{}", RecipeKey::of_document(document), ActionKey::of_document(document));
        expect_test::expect![[r#"
            afbcff121f1207bf8330876ab4cee0c0f535fefb8f11f0d38bd344007046d068
            17cb5b5745d1039a8cdf6afeeee338bd0862d82485f4470e6c8976460b0797c5"#]]
        .assert_eq(&keys);
    }
}
