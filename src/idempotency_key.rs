//! Idempotency keys: what makes a repeated submit the same submit.
//!
//! Keys made here are time-ordered, because random ones scatter over the index of a large table.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The longest key that a client may choose.
pub const MAX_KEY: usize = 64;

/// A key as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey([u8; 16]);

impl IdempotencyKey {
    /// A new key.
    pub fn generate() -> IdempotencyKey {
        IdempotencyKey(*Uuid::now_v7().as_bytes())
    }

    /// The key that a client chose: 1 to [`MAX_KEY`] visible ASCII characters, compared byte for byte. Nothing when it
    /// is malformed.
    pub fn parse(text: &str) -> Option<IdempotencyKey> {
        if !(1..=MAX_KEY).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        // Only a UUID's canonical form stands for its bytes: in capitals it is another text, and so another key.
        if let Ok(uuid) = Uuid::try_parse(text)
            && uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text
        {
            return Some(IdempotencyKey(*uuid.as_bytes()));
        }
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::digest(text)[..16]);
        Some(IdempotencyKey(key))
    }

    /// The key of another text that a form sent with this key; the same for the same text. It begins like this key, so that
    /// both are near each other in the index.
    pub fn for_text(&self, text: &str) -> IdempotencyKey {
        const KEPT: usize = 6;
        let hash = Sha256::new().chain_update(self.0).chain_update(text).finalize();
        let mut key = self.0;
        key[KEPT..].copy_from_slice(&hash[..16 - KEPT]);
        IdempotencyKey(key)
    }

    /// The bytes that are stored.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Appends the bytes that are stored, in hex.
    pub fn push_hex(&self, text: &mut String) {
        text.push_str(Uuid::from_bytes(self.0).simple().encode_lower(&mut Uuid::encode_buffer()));
    }

    /// The key with these stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<IdempotencyKey> {
        bytes.try_into().ok().map(IdempotencyKey)
    }
}

/// A fresh key in the form that a client sends back, for a form or a script.
pub fn generate_text() -> String {
    Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_made_here_comes_back_as_the_same_key() {
        let text = generate_text();
        assert_eq!(IdempotencyKey::parse(&text).unwrap().as_bytes(), Uuid::parse_str(&text).unwrap().as_bytes());
    }

    #[test]
    fn keys_are_compared_byte_for_byte() {
        let key = |text: &str| IdempotencyKey::parse(text).unwrap();
        let uuid = "0190163d-8694-739b-aea5-966c26f8ad90";
        assert_eq!(key(uuid), key(uuid));
        assert_ne!(key(uuid), key(&uuid.to_uppercase()));
        assert_ne!(key(uuid), key(&uuid.replace('-', "")));
        assert_ne!(key("a"), key("A"));
        assert_eq!(key("order-1"), key("order-1"));
    }

    #[test]
    fn a_key_is_1_to_64_visible_ascii_characters() {
        for text in ["!", "~", &"k".repeat(64)] {
            assert!(IdempotencyKey::parse(text).is_some(), "{text:?}");
        }
        for text in ["", " ", "a b", "é", "a\n", "\u{7f}", &"k".repeat(65)] {
            assert!(IdempotencyKey::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_text_has_a_key_of_its_own_beside_that_of_its_form() {
        let key = IdempotencyKey::generate();
        assert_eq!(key.for_text("a"), key.for_text("a"));
        assert_ne!(key.for_text("a"), key.for_text("b"));
        assert_ne!(key.for_text("a"), IdempotencyKey::generate().for_text("a"));
        assert_ne!(key.for_text("a"), key);
        assert_eq!(key.for_text("a").as_bytes()[..6], key.as_bytes()[..6]);
    }

    #[test]
    fn fresh_keys_are_ordered_by_time() {
        let keys: Vec<IdempotencyKey> = (0..1000).map(|_| IdempotencyKey::generate()).collect();
        assert!(keys.is_sorted());
    }
}
