//! CHAP (RFC 1994 as RFC 7143 §12.1.3 uses it).

/// A secret, which no log ever shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Of any length; whether it is long enough is for the configuration to say.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret(bytes.into())
    }

    /// Its length, for the configuration to check.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it is no secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A name and what it proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapUser {
    /// CHAP_N.
    pub name: String,
    /// What only both sides know.
    pub secret: Secret,
}
