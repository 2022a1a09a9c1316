//! Readers for the habits of Go's JSON encoder, for `#[serde(with = …)]` and `deserialize_with`.
//!
//! | habit | reader | answer |
//! |---|---|---|
//! | `null` for a nil slice or map | [`or_default`], [`list`] | empty |
//! | a list entry that is `null` or unreadable | [`list`], [`texts`] | dropped |
//! | `0001-01-01T00:00:00Z` | [`time`] | `None` |
//! | `opt.Bool` as `""` | [`opt_bool`] | `None` |
//! | an invalid `netip` value as `""` | [`text`], [`texts`] | `None`, dropped |
//! | a map whose key or value is unreadable | [`map`] | entry dropped |

use std::{borrow::Cow, collections::BTreeMap, fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{DeserializeOwned, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Reads a value; `null` is the type's default.
pub fn or_default<'de, T, D>(d: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Reads a list; `null` is empty, and an entry that is `null` or not a `T` is dropped.
pub fn list<'de, T, D>(d: D) -> Result<Vec<T>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    Ok(optional_list(d)?.unwrap_or_default())
}

/// Like [`list`], but tells `null` (`None`) from the empty list.
pub fn optional_list<'de, T, D>(d: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    optional_list_by(d, |raw| serde_json::from_str(raw).ok())
}

/// Reads a list with `read`, one entry's JSON text at a time; what it answers `None` to is dropped.
pub(super) fn optional_list_by<'de, T, D>(d: D, read: fn(&str) -> Option<T>) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct Entries<T>(fn(&str) -> Option<T>);

    impl<'de, T> Visitor<'de> for Entries<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_seq(self)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(raw) = seq.next_element::<Box<RawValue>>()? {
                entries.extend((self.0)(raw.get()));
            }
            Ok(Some(entries))
        }
    }

    d.deserialize_option(Entries(read))
}

/// Reads a list of texts, keeping those that parse as `T`; `null` is empty.
pub fn texts<'de, T, D>(d: D) -> Result<Vec<T>, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    Ok(optional_texts(d)?.unwrap_or_default())
}

/// Like [`texts`], but tells `null` (`None`) from the empty list.
pub fn optional_texts<'de, T, D>(d: D) -> Result<Option<Vec<T>>, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    optional_list_by(d, |raw| serde_json::from_str::<Cow<'_, str>>(raw).ok()?.parse().ok())
}

/// Reads one text as a `T`; `null`, `""` and texts that are not a `T` are `None`.
pub fn text<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
where
    T: FromStr,
    D: Deserializer<'de>,
{
    Ok(Option::<Cow<'_, str>>::deserialize(d)?.and_then(|text| text.parse().ok()))
}

/// Reads a map; `null` is empty, and an entry whose key does not parse or whose value is unreadable is dropped.
pub fn map<'de, K, V, D>(d: D) -> Result<BTreeMap<K, V>, D::Error>
where
    K: FromStr + Ord,
    V: DeserializeOwned,
    D: Deserializer<'de>,
{
    struct Entries<K, V>(PhantomData<(K, V)>);

    impl<'de, K: FromStr + Ord, V: DeserializeOwned> Visitor<'de> for Entries<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
            d.deserialize_map(self)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<Cow<'_, str>, Box<RawValue>>()? {
                if let (Ok(key), Ok(value)) = (key.parse(), serde_json::from_str(value.get())) {
                    map.insert(key, value);
                }
            }
            Ok(map)
        }
    }

    d.deserialize_option(Entries(PhantomData))
}

/// RFC 3339 times where Go's zero time, `""` and `null` mean "none". A text that is no time is an error: a key expiry
/// that cannot be read must not become "never expires".
pub mod time {
    use ::time::{OffsetDateTime, format_description::well_known::Rfc3339};
    use serde::{de::Error as _, ser::Error as _};

    use super::*;

    /// Writes RFC 3339; `None` is Go's zero time.
    pub fn serialize<S: Serializer>(time: &Option<OffsetDateTime>, s: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => s.serialize_str(&time.format(&Rfc3339).map_err(S::Error::custom)?),
            None => s.serialize_str("0001-01-01T00:00:00Z"),
        }
    }

    /// Reads RFC 3339.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<OffsetDateTime>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(d)?.unwrap_or_default();
        if text.is_empty() {
            return Ok(None);
        }
        let time = OffsetDateTime::parse(&text, &Rfc3339).map_err(D::Error::custom)?;
        Ok((time.year() > 1).then_some(time))
    }
}

/// Go's `opt.Bool`: `true`, `false`, and `""` or `null` for "not known". Any other value is "not known" too.
pub mod opt_bool {
    use super::*;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OptBool {
        Known(bool),
        Other(serde::de::IgnoredAny),
    }

    /// Writes `true`, `false`, or `""` for `None`.
    pub fn serialize<S: Serializer>(value: &Option<bool>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_bool(*value),
            None => s.serialize_str(""),
        }
    }

    /// Reads any of the forms.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
        Ok(match Option::<OptBool>::deserialize(d)? {
            Some(OptBool::Known(value)) => Some(value),
            _ => None,
        })
    }
}

/// Go's `[]byte`: standard base64, `null` for none. What is not base64 reads as empty.
pub mod base64 {
    use ::base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::*;

    /// Writes padded standard base64.
    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    /// Reads padded standard base64.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(d)?.unwrap_or_default();
        Ok(STANDARD.decode(text.as_bytes()).unwrap_or_default())
    }
}
