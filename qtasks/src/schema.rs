//! What types a task function takes and gives, as JSON Schemas where they have some.
//!
//! Does a type have a schema? The macro can't tell: this can, from the type. Nothing of it is made before somebody asks.

use std::fmt;
use std::marker::PhantomData;

#[cfg(feature = "schema")]
use schemars::generate::{Contract, SchemaSettings};
#[cfg(feature = "schema")]
use serde::Serialize;
#[cfg(feature = "schema")]
use serde_json::{Map, Value, json};

#[cfg(feature = "schema")]
use crate::task::{ArgSpec, TaskSpec};

/// Makes the schema of one type.
#[cfg(feature = "schema")]
type Make = fn(&mut schemars::SchemaGenerator) -> schemars::Schema;

/// The schema of one type, if it has one.
#[derive(Clone, Copy)]
pub struct SchemaOf {
    #[cfg(feature = "schema")]
    make: Option<Make>,
}

impl fmt::Debug for SchemaOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaOf")
    }
}

impl SchemaOf {
    const ANY: SchemaOf = SchemaOf {
        #[cfg(feature = "schema")]
        make: None,
    };

    #[cfg(feature = "schema")]
    fn value(self, generator: &mut schemars::SchemaGenerator) -> Value {
        self.make.map_or(Value::Bool(true), |make| make(generator).to_value())
    }
}

/// Tells the schema of a concrete type: the inherent constant wins over the trait's.
#[derive(Debug)]
pub struct SchemaProbe<T: ?Sized>(PhantomData<T>);

/// What [`SchemaProbe`] says of a type without a schema.
pub trait SchemaFallback {
    /// Anything.
    const SCHEMA: SchemaOf = SchemaOf::ANY;
}

impl<T: ?Sized> SchemaFallback for SchemaProbe<T> {}

#[cfg(feature = "schema")]
impl<T: ?Sized + schemars::JsonSchema> SchemaProbe<T> {
    /// Its own.
    pub const SCHEMA: SchemaOf = SchemaOf { make: Some(|generator| generator.subschema_for::<T>()) };
}

/// The types of a task function.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "asked for by the feature `schema`"))]
pub struct Types {
    args: Args,
    item: Option<SchemaOf>,
    output: SchemaOf,
}

#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "schema"), expect(dead_code, reason = "asked for by the feature `schema`"))]
enum Args {
    /// One for each.
    Each(&'static [SchemaOf]),
    /// One type has them as its fields.
    Fields(SchemaOf),
}

impl Types {
    /// Of a function: what it takes, what it yields if it does, and what it returns.
    pub const fn new(args: &'static [SchemaOf], item: Option<SchemaOf>, output: SchemaOf) -> Self {
        Types { args: Args::Each(args), item, output }
    }

    /// Of a struct whose fields are the arguments.
    pub const fn fields(fields: SchemaOf, item: SchemaOf, output: SchemaOf) -> Self {
        Types { args: Args::Fields(fields), item: Some(item), output }
    }

    /// Of a function about which nothing is known.
    pub(crate) const fn unknown(generating: bool) -> Self {
        let item = if generating { Some(SchemaOf::ANY) } else { None };
        Types { args: Args::Fields(SchemaOf::ANY), item, output: SchemaOf::ANY }
    }
}

/// What a task function takes and gives, as JSON Schemas (draft 2020-12): from [`TaskSpec::schemas`].
///
/// Each stands for itself, with what it refers to under `$defs`. A type that does not implement
/// [`schemars::JsonSchema`] is `true`: anything goes.
#[cfg(feature = "schema")]
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Schemas {
    /// Its arguments, as the object by name in which they are given; what is required, and nothing beside them. They
    /// may be given as an array as well, in the order of [`TaskSpec::args`].
    pub args: Value,
    /// Each value that it yields, after the handler. `None` of a plain task.
    pub item: Option<Value>,
    /// What a plain task returns, or a generator after its last value: `{"type": "null"}` where that is nothing.
    pub output: Value,
}

#[cfg(feature = "schema")]
impl Schemas {
    pub(crate) fn of(spec: &TaskSpec) -> Self {
        let Types { args, item, output } = spec.types;
        let given = |schema: SchemaOf| whole(Contract::Serialize, |generator| schema.value(generator));
        let args = whole(Contract::Deserialize, |generator| match args {
            Args::Each(types) => object(spec.args, types, generator),
            Args::Fields(schema) => schema.value(generator),
        });
        Schemas { args, item: item.map(given), output: given(output) }
    }
}

/// The schema of an object with these arguments.
#[cfg(feature = "schema")]
fn object(args: &[ArgSpec], types: &[SchemaOf], generator: &mut schemars::SchemaGenerator) -> Value {
    let properties = args.iter().zip(types).map(|(arg, schema)| (arg.name.to_owned(), schema.value(generator)));
    let properties: Map<String, Value> = properties.collect();
    let required: Vec<&str> = args.iter().filter(|arg| arg.required).map(|arg| arg.name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// A schema with all that it refers to.
#[cfg(feature = "schema")]
fn whole(contract: Contract, make: impl FnOnce(&mut schemars::SchemaGenerator) -> Value) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.contract = contract;
    let mut generator = settings.into_generator();
    let Value::Object(mut schema) = make(&mut generator) else { return Value::Bool(true) };
    let definitions = generator.take_definitions(true);
    if !definitions.is_empty() {
        schema.insert("$defs".to_owned(), Value::Object(definitions));
    }
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    Value::Object(schema)
}
