//! [`Json`]: a value as JSON text, written once and handed on as it is.
//!
//! Invariant: what a `Json` holds is one complete JSON document in UTF-8, at most [`DEPTH_MAX`] levels deep.

use std::fmt;
use std::io;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::ser::Formatter;
use serde_json::value::RawValue;

mod finite;

/// How deep a value may be nested. `serde_json` reads no deeper either.
pub const DEPTH_MAX: usize = 128;

/// A value as JSON text. Cheap to clone; parsed only when somebody asks.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Bytes);

impl Json {
    /// Writes a value.
    ///
    /// # Errors
    /// If the value can't be written as JSON: NaN and infinite numbers, maps whose keys are no strings, or nested
    /// deeper than [`DEPTH_MAX`].
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let mut out = Vec::new();
        encode(value, &mut out)?;
        Ok(Json(out.into()))
    }

    /// `null`.
    pub fn null() -> Self {
        Json(Bytes::from_static(b"null"))
    }

    /// `{}`.
    pub(crate) fn nothing() -> Self {
        Json(Bytes::from_static(b"{}"))
    }

    /// Takes text that is JSON already.
    ///
    /// # Errors
    /// If it is not, or is nested deeper than [`DEPTH_MAX`].
    pub fn parse(text: impl Into<String>) -> Result<Self, serde_json::Error> {
        Json::of_raw(RawValue::from_string(text.into())?)
    }

    fn of_raw<E: serde::de::Error>(raw: Box<RawValue>) -> Result<Self, E> {
        if is_too_deep(raw.get()) {
            return Err(E::custom(format_args!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(Json(Bytes::from(String::from(Box::<str>::from(raw)))))
    }

    /// Takes text known to be JSON: what [`encode`] wrote.
    pub(crate) fn trusted(text: Bytes) -> Self {
        debug_assert!(serde_json::from_slice::<&RawValue>(&text).is_ok(), "not JSON");
        Json(text)
    }

    /// Values as one list.
    pub(crate) fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut list = Vec::from(*b"[");
        for value in values {
            if list.len() > 1 {
                list.push(b',');
            }
            list.extend_from_slice(value);
        }
        list.push(b']');
        Json::trusted(list.into())
    }

    /// Reads it as a `T`.
    ///
    /// # Errors
    /// If it is not the JSON of a `T`.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("JSON is UTF-8")
    }

    /// The bytes of the text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<serde_json::Value> for Json {
    fn eq(&self, other: &serde_json::Value) -> bool {
        self.get::<serde_json::Value>().is_ok_and(|v| v == *other)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error as _;
        let raw: &RawValue = serde_json::from_slice(&self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Json::of_raw(Box::<RawValue>::deserialize(deserializer).map_err(D::Error::custom)?)
    }
}

/// Whether text is JSON that [`Json`] may hold.
pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| !is_too_deep(raw.get()))
}

/// Whether text that is JSON is nested deeper than it may be: who reads it later reads no deeper.
fn is_too_deep(json: &str) -> bool {
    // As when it is written: see `Checks::enter`.
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    json.bytes().any(|byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth -= 1,
            _ => {}
        }
        depth >= DEPTH_MAX
    })
}

/// Appends the JSON of `value` to `out`; on error, `out` is as it was.
///
/// Unlike `serde_json::to_writer` it refuses NaN and infinite numbers, which would come back as `null`, and
/// values nested too deep to be read again.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    let start = out.len();
    let mut checks = Checks { depth: 0, nulls: false };
    let written = value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, &mut checks));
    // Only a value with a `null` in it can have had a number that is none.
    let written = if checks.nulls { written.and_then(|()| finite::check(value)) } else { written };
    if written.is_err() {
        out.truncate(start);
    }
    written
}

/// Writes compact JSON and notes what [`encode`] must know of it.
struct Checks {
    depth: usize,
    nulls: bool,
}

impl Checks {
    fn enter(&mut self) -> io::Result<()> {
        self.depth += 1;
        // One less than serde_json's own limit on reading, which counts the innermost value as well.
        if self.depth >= DEPTH_MAX {
            return Err(io::Error::other(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        Ok(())
    }
}

impl Formatter for &mut Checks {
    #[inline]
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.nulls = true;
        writer.write_all(b"null")
    }
    #[inline]
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"[")
    }
    #[inline]
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"]")
    }
    #[inline]
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.enter()?;
        writer.write_all(b"{")
    }
    #[inline]
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(b"}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let mut out = b"before".to_vec();
            assert!(encode(&bad, &mut out).is_err());
            assert!(encode(&(Some(1), [Some(bad)]), &mut out).is_err());
            assert!(encode(&(bad as f32), &mut out).is_err());
            assert_eq!(out, b"before");
        }
        assert_eq!(Json::of(&(None::<f64>, Some(1.5), ())).unwrap().as_str(), "[null,1.5,null]");
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let nest = |n: usize| -> serde_json::Value {
            (0..n).fold(serde_json::Value::from(1), |v, _| serde_json::Value::Array(vec![v]))
        };
        let deepest = Json::of(&nest(DEPTH_MAX - 1)).unwrap();
        assert_eq!(deepest.get::<serde_json::Value>().unwrap(), nest(DEPTH_MAX - 1));
        assert!(Json::of(&nest(DEPTH_MAX)).is_err());
        let text = |levels: usize| format!("{}\"[[\\\"[\"{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse(text(DEPTH_MAX - 1)).is_ok() && serde_json::from_str::<Json>(&text(DEPTH_MAX - 1)).is_ok());
        assert!(Json::parse(text(DEPTH_MAX)).is_err() && serde_json::from_str::<Json>(&text(DEPTH_MAX)).is_err());
        assert!(Json::parse("[1").is_err());
    }
}
