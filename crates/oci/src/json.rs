//! Strict JSON: one document, a bound on its size, no key twice in any object.
//!
//! Two readers of one document may pick different values for a key that is given twice, so such a
//! document means different images to different tools; it is refused everywhere.

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;

/// The largest manifest or index that is read, in bytes (registries refuse more than 4 MiB as well).
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// The largest image config that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 8 << 20;

/// Why bytes are not an acceptable JSON document.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    #[error("the document is {size} bytes, more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("the document is not valid JSON of the expected shape")]
    Syntax(#[source] serde_json::Error),
}

/// Parse `bytes` strictly.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, JsonError> {
    if bytes.len() > limit {
        return Err(JsonError::TooLarge { size: bytes.len(), limit });
    }
    serde_json::from_slice::<UniqueKeys>(bytes).map_err(JsonError::Syntax)?;
    serde_json::from_slice(bytes).map_err(JsonError::Syntax)
}

/// Compact JSON; the types of this crate always serialise.
pub(crate) fn compact<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// JSON indented by two spaces, as Docker and BuildKit write manifests.
pub(crate) fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// `null` and an absent field both mean the default.
pub(crate) fn nullable<'de, D, T>(d: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// An empty string, `null` and an absent field all mean `None`.
pub(crate) fn non_empty<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(d)?.filter(|s| !s.is_empty()))
}

/// Accepts any JSON value without keeping it, and refuses an object that has a key twice.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        UniqueKeys.deserialize(d)
    }
}

impl<'de> DeserializeSeed<'de> for UniqueKeys {
    type Value = UniqueKeys;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<UniqueKeys, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = UniqueKeys;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_i64<E>(self, _: i64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_u64<E>(self, _: u64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_f64<E>(self, _: f64) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_str<E>(self, _: &str) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_unit<E>(self) -> Result<UniqueKeys, E> {
        Ok(UniqueKeys)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<UniqueKeys, A::Error> {
        while seq.next_element::<UniqueKeys>()?.is_some() {}
        Ok(UniqueKeys)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueKeys, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<UniqueKeys>()?;
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
        }
        Ok(UniqueKeys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<serde_json::Value, JsonError> {
        parse(text.as_bytes(), 4096)
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_depth() {
        assert!(check(r#"{"a":[{"b":1,"c":{"d":null}}],"b":1.5}"#).is_ok());
        for bad in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn size_depth_and_trailing_bytes_are_bounded() {
        assert!(check("{} {}").is_err());
        assert!(check("").is_err());
        assert!(check(&"[".repeat(4000)).is_err());
        assert!(matches!(check(&" ".repeat(5000)), Err(JsonError::TooLarge { size: 5000, limit: 4096 })));
    }
}
