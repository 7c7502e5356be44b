//! Finds NaN and infinite numbers in a value, which `serde_json` writes as `null` without a word.

use serde::ser::Error as _;
use serde::{Serialize, Serializer, ser};
use serde_json::Error;

/// Errors at the first number that JSON does not have.
pub(super) fn check<T: Serialize + ?Sized>(value: &T) -> Result<(), Error> {
    value.serialize(Finite)
}

/// A serializer that writes nothing.
#[derive(Clone, Copy)]
struct Finite;

fn number(finite: bool, shown: impl std::fmt::Display) -> Result<(), Error> {
    if finite { Ok(()) } else { Err(Error::custom(format_args!("JSON has no number {shown}"))) }
}

macro_rules! nothing_to_find {
    ($($method:ident: $ty:ty,)*) => { $(fn $method(self, _: $ty) -> Result<(), Error> { Ok(()) })* };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Finite;
    type SerializeTuple = Finite;
    type SerializeTupleStruct = Finite;
    type SerializeTupleVariant = Finite;
    type SerializeMap = Finite;
    type SerializeStruct = Finite;
    type SerializeStructVariant = Finite;

    nothing_to_find! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_f32(self, v: f32) -> Result<(), Error> {
        number(v.is_finite(), v)
    }
    fn serialize_f64(self, v: f64) -> Result<(), Error> {
        number(v.is_finite(), v)
    }
    fn serialize_none(self) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Finite, Error> {
        Ok(self)
    }
    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Finite, Error> {
        Ok(self)
    }
    fn collect_str<T: std::fmt::Display + ?Sized>(self, _: &T) -> Result<(), Error> {
        Ok(())
    }
}

macro_rules! looks_into {
    ($($of:ident: $method:ident,)*) => { $(
        impl ser::$of for Finite {
            type Ok = ();
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(*self)
            }
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )* };
}
looks_into! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! looks_into_fields {
    ($($of:ident,)*) => { $(
        impl ser::$of for Finite {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Error> {
                value.serialize(*self)
            }
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        }
    )* };
}
looks_into_fields! { SerializeStruct, SerializeStructVariant, }

impl ser::SerializeMap for Finite {
    type Ok = ();
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(*self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(*self)
    }
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
