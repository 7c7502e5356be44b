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
    // There may be others that only workers elsewhere know.
    let names: Vec<&str> = inner.app.registered().map(|(name, _)| name).collect();
    document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["task"]
        ["examples"] = json!(names);
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
    // One that has failed has none.
    let output = json!({ "anyOf": [named("output", schemas.output), { "type": "null" }] });
    let returning = item.map_or_else(|| output.clone(), |item| json!({ "type": "array", "items": item }));
    let done = json!({ "allOf": [
        to("Task"),
        { "type": "object", "properties": { "returning": returning, "final_value": output } },
    ] });
    let mut answers = problems(&[400, 401, 403, 408, 409, 413, 415, 421, 422, 503]);
    let mut ended = content("It has ended: with `Prefer: wait=SECONDS`.", &done);
    ended["content"]["text/event-stream"] = json!({ "schema": to("Frame") });
    answers.insert("200".to_owned(), ended);
    answers.insert("202".to_owned(), content("It was added.", &to("Task")));
    json!({
        "operationId": format!("add_{name}"),
        "summary": format!("Adds a `{name}`"),
        "description": spec.description.unwrap_or_default(),
        "tags": ["tasks"],
        "parameters": [
            { "$ref": "#/components/parameters/prefer" },
            { "$ref": "#/components/parameters/idempotency_key" },
            { "$ref": "#/components/parameters/traceparent" },
            { "$ref": "#/components/parameters/tracestate" },
        ],
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

/// The answer of who added a task.
fn content(description: &str, schema: &Value) -> Value {
    json!({
        "description": description,
        "headers": { "Location": { "$ref": "#/components/headers/location" } },
        "content": { "application/json": { "schema": schema } },
    })
}

fn problems(statuses: &[u16]) -> Map<String, Value> {
    statuses.iter().map(|status| (status.to_string(), json!({ "$ref": "#/components/responses/problem" }))).collect()
}
