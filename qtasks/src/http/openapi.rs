//! `/openapi.json`: what the server answers, with an operation of its own for each task function.

use axum::extract::{Request, State};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::auth::Scope;
use super::tasks::json as answer;
use super::{Answered, Shared};
use crate::task::TaskSpec;

/// What is there whatever the task functions.
const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn openapi(State(inner): Shared, request: Request) -> Answered {
    inner.access.allow(request.headers(), Scope::Read)?;
    let mut document: Value = serde_json::from_str(DOCUMENT).expect("a test reads it");
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    for (name, spec) in inner.app.registered() {
        let operation = function(name, spec, &mut document["components"]["schemas"]);
        document["paths"][format!("/v1/registry/{name}")] = json!({ "post": operation });
    }
    Ok(answer(StatusCode::OK, &document))
}

/// A reference to a schema of the document.
fn to(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// The operation that adds a task of a function: its body is the arguments.
fn function(name: &str, spec: &TaskSpec, components: &mut Value) -> Value {
    let schemas = schemas(spec);
    let mut named = |what: &str, schema: Value| {
        let key = format!("{name}.{what}");
        hoist(&key, schema, components);
        to(&key)
    };
    let args = named("args", schemas.args);
    let item = schemas.item.map(|item| named("item", item));
    let output = named("output", schemas.output);
    let returning = item.map_or_else(|| output.clone(), |item| json!({ "type": "array", "items": item }));
    let done = json!({ "allOf": [
        to("Task"),
        { "type": "object", "properties": { "returning": returning, "final_value": output } },
    ] });
    let mut answers = problems(&[400, 401, 403, 408, 409, 413, 415, 421, 422, 503]);
    answers.insert("200".to_owned(), content("It has ended: with `Prefer: wait=SECONDS`.", &done));
    answers.insert("202".to_owned(), content("It was added.", &to("Task")));
    json!({
        "operationId": format!("add_{name}"),
        "summary": format!("Adds a `{name}`"),
        "description": spec.description.unwrap_or_default(),
        "tags": ["tasks"],
        "parameters": [header("Prefer", "`wait=10` waits up to 10 s for the end."), header("Idempotency-Key", "Adds it once.")],
        "requestBody": { "required": true, "content": { "application/json": { "schema": args } } },
        "responses": answers,
    })
}

struct Types {
    args: Value,
    item: Option<Value>,
    output: Value,
}

#[cfg(feature = "schema")]
fn schemas(spec: &TaskSpec) -> Types {
    let crate::Schemas { args, item, output } = spec.schemas();
    Types { args, item, output }
}

/// Without schemas of the types: the names of the arguments.
#[cfg(not(feature = "schema"))]
fn schemas(spec: &TaskSpec) -> Types {
    let properties: Map<String, Value> = spec.args.iter().map(|arg| (arg.name.to_owned(), Value::Bool(true))).collect();
    let required: Vec<&str> = spec.args.iter().filter(|arg| arg.required).map(|arg| arg.name).collect();
    let item = spec.generating.then_some(Value::Bool(true));
    Types {
        args: json!({ "type": "object", "properties": properties, "required": required }),
        item,
        output: Value::Bool(true),
    }
}

/// Puts a schema among the components, and what it defines beside it: a document has one place for all of them.
fn hoist(key: &str, mut schema: Value, components: &mut Value) {
    let definitions = schema.as_object_mut().and_then(|schema| {
        schema.remove("$schema");
        schema.remove("$defs")
    });
    if let Some(Value::Object(definitions)) = definitions {
        for (name, mut definition) in definitions {
            redirect(&mut definition, key);
            components[format!("{key}.{name}")] = definition;
        }
    }
    redirect(&mut schema, key);
    components[key] = schema;
}

fn redirect(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter_mut() {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(definition) if name == "$ref" => {
                        *value = format!("#/components/schemas/{key}.{definition}").into();
                    }
                    _ => redirect(value, key),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| redirect(value, key)),
        _ => {}
    }
}

fn content(description: &str, schema: &Value) -> Value {
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn problems(statuses: &[u16]) -> Map<String, Value> {
    statuses.iter().map(|status| (status.to_string(), json!({ "$ref": "#/components/responses/problem" }))).collect()
}

fn header(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "header", "description": description, "schema": { "type": "string" } })
}
