//! Instants as RFC 3339 text in UTC, to the millisecond.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

/// Milliseconds since 1970; an instant before that counts as 1970.
pub(crate) fn to_ms(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The instant so many milliseconds after 1970, or the last one that RFC 3339 can write.
pub(crate) fn from_ms(ms: u64) -> SystemTime {
    /// The last millisecond of the year 9999.
    const LAST: u64 = 253_402_300_799_999;
    UNIX_EPOCH + Duration::from_millis(ms.min(LAST))
}

pub(crate) fn serialize<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(from_ms(to_ms(*at))))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
    humantime::parse_rfc3339(&text).map_err(D::Error::custom)
}

pub(super) mod option {
    use super::{Deserialize, Deserializer, Serializer, SystemTime};

    pub(in crate::task) fn serialize<S: Serializer>(at: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::task) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        #[derive(Deserialize)]
        struct Instant(#[serde(with = "super")] SystemTime);
        Ok(Option::<Instant>::deserialize(deserializer)?.map(|i| i.0))
    }
}
