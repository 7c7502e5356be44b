//! Arguments on the wire: a JSON object by name, or an array by position.
//!
//! Reading goes through a table of raw values, so that all a task adds is one call for each argument, and the code
//! behind that is shared by all arguments of one type.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind};
use crate::json::{Json, encode};
use crate::task::{ArgSpec, FailureKind, TaskFailure};

/// What the type of an argument must be: written by the caller, read by the worker.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a task argument",
    label = "cannot be sent to a worker",
    note = "an argument must implement `serde::Serialize` and `serde::Deserialize` (owned), and be `Send + 'static`",
    note = "for something the worker supplies, use `State<T>` or mark the parameter `#[context]`"
)]
pub trait TaskArg: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> TaskArg for T {}

/// How arguments of one type are written and read. Got from [`arg`] in both directions, so that a type that can't be
/// an argument is reported once.
#[derive(Debug)]
pub struct Arg<T> {
    write: fn(&mut ArgsWriter, &'static str, &T),
    read: fn(&ArgsReader<'_>, usize) -> Result<T, TaskFailure>,
    read_or: ReadOr<T>,
}

type ReadOr<T> = fn(&ArgsReader<'_>, usize, fn() -> T) -> Result<T, TaskFailure>;

/// Arguments of type `T`.
#[inline(always)]
pub fn arg<T: TaskArg>() -> Arg<T> {
    Arg { write: ArgsWriter::write::<T>, read: |a, i| a.read(i), read_or: |a, i, default| a.read_or(i, default) }
}

impl<T> Arg<T> {
    /// Adds the argument `name`.
    #[inline(always)]
    pub fn write(self, args: &mut ArgsWriter, name: &'static str, value: &T) {
        (self.write)(args, name, value);
    }

    /// Reads the argument at `i`.
    ///
    /// # Errors
    /// Of kind `codec`, naming the argument, if it is missing or no `T`.
    #[inline(always)]
    pub fn read(self, args: &ArgsReader<'_>, i: usize) -> Result<T, TaskFailure> {
        (self.read)(args, i)
    }

    /// Reads the argument at `i`, or makes it up where it is missing.
    ///
    /// # Errors
    /// Of kind `codec`, naming the argument, if it is no `T`.
    #[inline(always)]
    pub fn read_or(self, args: &ArgsReader<'_>, i: usize, default: fn() -> T) -> Result<T, TaskFailure> {
        (self.read_or)(args, i, default)
    }
}

/// The arguments of a call, cut up but not yet read.
#[derive(Debug)]
pub struct ArgsReader<'a> {
    specs: &'static [ArgSpec],
    values: Vec<Option<&'a RawValue>>,
}

impl<'a> ArgsReader<'a> {
    /// Cuts up what a call sent; nothing at all is no arguments.
    ///
    /// # Errors
    /// Of kind `codec`, if it is neither an object nor an array, or has more than `specs` lists.
    pub fn new(specs: &'static [ArgSpec], raw: &'a [u8]) -> Result<Self, TaskFailure> {
        let mut reader = ArgsReader { specs, values: vec![None; specs.len()] };
        if !raw.is_empty() {
            let mut json = serde_json::Deserializer::from_slice(raw);
            let read = json.deserialize_any(Table(&mut reader)).and_then(|()| json.end());
            read.map_err(|e| codec(format!("arguments: {e}")))?;
        }
        Ok(reader)
    }

    fn read<T: DeserializeOwned>(&self, i: usize) -> Result<T, TaskFailure> {
        match self.values[i] {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|e| self.invalid(i, &e)),
            None => T::deserialize(Missing).map_err(|_| self.missing(i)),
        }
    }

    fn read_or<T: DeserializeOwned>(&self, i: usize, default: fn() -> T) -> Result<T, TaskFailure> {
        match self.values[i] {
            Some(raw) => serde_json::from_str(raw.get()).map_err(|e| self.invalid(i, &e)),
            None => Ok(default()),
        }
    }

    #[cold]
    fn invalid(&self, i: usize, e: &serde_json::Error) -> TaskFailure {
        codec(format!("argument `{}`: {e}", self.specs[i].name))
    }

    #[cold]
    fn missing(&self, i: usize) -> TaskFailure {
        let ArgSpec { name, ty, .. } = self.specs[i];
        codec(format!("argument `{name}` (`{ty}`) is missing"))
    }
}

fn codec(message: String) -> TaskFailure {
    TaskFailure::new(FailureKind::Codec, message)
}

/// The arguments of a call with one more, by name: `args` is an object, or nothing at all.
///
/// # Errors
/// If it is not, or has the argument already.
pub(crate) fn with_value(args: &Json, name: &str, value: &Json) -> Result<Json, String> {
    let mut all: BTreeMap<String, Json> = match args.as_bytes() {
        b"null" => BTreeMap::new(),
        _ => args.get().map_err(|e| format!("arguments: expected an object by name: {e}"))?,
    };
    if all.insert(name.to_owned(), value.clone()).is_some() {
        return Err(format!("argument `{name}` is given twice"));
    }
    Json::of(&all).map_err(|e| format!("arguments: {e}"))
}

/// What a missing argument is read from: good for an `Option`, by whatever name, and for nothing else.
struct Missing;

impl<'de> Deserializer<'de> for Missing {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("missing"))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Fills the table of raw values.
struct Table<'r, 'a>(&'r mut ArgsReader<'a>);

impl<'de> Visitor<'de> for Table<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array of arguments")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let Some(i) = self.0.specs.iter().position(|s| s.name == key) else {
                return Err(A::Error::custom(unknown(&key, self.0.specs)));
            };
            if self.0.values[i].replace(map.next_value()?).is_some() {
                return Err(A::Error::custom(format_args!("`{key}` is given twice")));
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let (mut given, taken) = (0, self.0.specs.len());
        while let Some(raw) = seq.next_element::<&RawValue>()? {
            if let Some(value) = self.0.values.get_mut(given) {
                *value = Some(raw);
            }
            given += 1;
        }
        if given > taken {
            return Err(A::Error::custom(format_args!("{given} given, at most {taken} taken")));
        }
        Ok(())
    }
}

#[cold]
fn unknown(key: &str, specs: &[ArgSpec]) -> String {
    if specs.is_empty() {
        return format!("`{key}` is not known: this task takes none");
    }
    let known: Vec<&str> = specs.iter().map(|s| s.name).collect();
    format!("`{key}` is not known: this task takes `{}`", known.join("`, `"))
}

/// The name of an argument; borrowed unless it is written with escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Name)
    }
}

/// Builds the JSON object of a call.
#[derive(Debug)]
pub struct ArgsWriter {
    text: Vec<u8>,
    error: Option<Error>,
}

impl ArgsWriter {
    /// A call without arguments, so far.
    #[expect(clippy::new_without_default, reason = "only generated code makes one")]
    pub fn new() -> Self {
        let mut text = Vec::with_capacity(64);
        text.push(b'{');
        ArgsWriter { text, error: None }
    }

    fn write<T: Serialize>(&mut self, name: &'static str, value: &T) {
        self.name(name);
        if let Err(e) = encode(value, &mut self.text) {
            self.refuse(name, &e);
        }
    }

    fn name(&mut self, name: &'static str) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
        // The macro refuses names that would have to be escaped.
        self.text.push(b'"');
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(b"\":");
    }

    /// Notes the first argument that can't be written.
    #[cold]
    fn refuse(&mut self, name: &'static str, e: &serde_json::Error) {
        let message = format!("argument `{name}` could not be written: {e}");
        self.error.get_or_insert_with(|| Error::new(ErrorKind::Codec, message));
    }

    /// The object.
    ///
    /// # Errors
    /// [`Codec`](ErrorKind::Codec), naming the first argument that could not be written as JSON.
    pub fn finish(mut self) -> Result<Json, Error> {
        self.text.push(b'}');
        match self.error {
            None => Ok(Json::trusted(Bytes::from(self.text))),
            Some(e) => Err(e),
        }
    }
}

/// Whether a call by name has the arguments that a task function takes, and each is of its type.
pub(crate) fn check(specs: &'static [ArgSpec], raw: &[u8]) -> Result<(), TaskFailure> {
    let args = ArgsReader::new(specs, raw)?;
    for (i, (spec, value)) in specs.iter().zip(&args.values).enumerate() {
        match value {
            Some(raw) => spec.check.of(raw.get()).map_err(|e| args.invalid(i, &e))?,
            None if spec.required => return Err(args.missing(i)),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::CheckProbe;

    const SPECS: &[ArgSpec] = &[
        ArgSpec::new("a", "i64", true, None, CheckProbe::<i64>::CHECK),
        ArgSpec::new("b", "Option<String>", false, None, CheckProbe::<Option<String>>::CHECK),
        ArgSpec::new("c", "u8", false, Some("7"), CheckProbe::<u8>::CHECK),
    ];

    fn read(raw: &str) -> Result<(i64, Option<String>, u8), String> {
        let read = || {
            let args = ArgsReader::new(SPECS, raw.as_bytes())?;
            Ok((arg().read(&args, 0)?, arg().read(&args, 1)?, arg().read_or(&args, 2, || 7)?))
        };
        read().map_err(|e: TaskFailure| {
            assert_eq!(e.kind, FailureKind::Codec);
            e.message
        })
    }

    #[test]
    fn arguments_are_read_by_name_and_by_place() {
        assert_eq!(read(r#"{"c":1,"\u0061":5,"b":"x"}"#), Ok((5, Some("x".into()), 1)));
        assert_eq!(read("[5]"), Ok((5, None, 7)));
        assert_eq!(read(r#"[5,null,1]"#), Ok((5, None, 1)));
    }

    #[test]
    fn a_wrong_argument_is_named() {
        for (raw, message) in [
            ("", "argument `a` (`i64`) is missing"),
            ("null", "argument `a` (`i64`) is missing"),
            ("[1,2]", "argument `b`: invalid type: integer `2`, expected a string at line 1 column 1"),
            ("[1,null,2,3]", "arguments: 4 given, at most 3 taken at line 1 column 12"),
            (r#"{"d":1}"#, "arguments: `d` is not known: this task takes `a`, `b`, `c` at line 1 column 4"),
            (r#"{"a":1,"a":1}"#, "arguments: `a` is given twice at line 1 column 13"),
            ("[1] 2", "arguments: trailing characters at line 1 column 5"),
        ] {
            assert_eq!(read(raw).unwrap_err(), message, "{raw}");
        }
    }

    #[test]
    fn only_an_option_may_be_missing() {
        let args = ArgsReader::new(SPECS, b"[]").unwrap();
        assert!(arg::<serde_json::Value>().read(&args, 0).is_err());
        assert!(arg::<()>().read(&args, 0).is_err());
        assert_eq!(arg::<Option<()>>().read(&args, 0).unwrap(), None);
    }

    #[test]
    fn what_can_not_be_written_is_refused_by_name() {
        let mut args = ArgsWriter::new();
        arg().write(&mut args, "a", &1);
        arg().write(&mut args, "b", &f64::NAN);
        arg().write(&mut args, "c", &f64::INFINITY);
        let e = args.finish().unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Codec);
        assert!(e.to_string().starts_with("argument `b` could not be written: "), "{e}");

        let mut args = ArgsWriter::new();
        arg().write(&mut args, "a", &1);
        arg().write(&mut args, "b", &"x\"".to_owned());
        assert_eq!(args.finish().unwrap().as_str(), r#"{"a":1,"b":"x\""}"#);
        assert_eq!(ArgsWriter::new().finish().unwrap().as_str(), "{}");
    }
}
