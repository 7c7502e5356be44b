//! What the server says of itself.

use std::collections::BTreeSet;

use super::*;

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Size {
    width: u32,
    height: Option<u32>,
}

#[task]
async fn resized(sizes: Vec<Size>, #[default = 1] times: u8) -> Size {
    for _ in 0..times {
        for Size { width, height } in &sizes {
            yield_!(Size { width: width * 2, height: *height });
        }
    }
}

/// Everything that a reference of the document names.
fn refs(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| refs(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| refs(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_has_every_route_and_every_task() {
    let site =
        Site::of(Qtasks::builder().store(crate::store()).tasks([count::spec(), plus::spec(), resized::spec()])).await;
    let document = site.get("/openapi.json").await.json();
    let mut found = BTreeSet::new();
    refs(&document, &mut found);
    assert!(found.len() > 8);
    for name in found {
        assert!(document.pointer(&name[1..]).is_some(), "{name} is not there");
    }
    let id = site.added(r#"{"task":"plus","args":[1]}"#).await;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", &id);
        for method in operations.as_object().unwrap().keys() {
            let headers = [("content-type", "application/json")];
            let status = site.call(&method.to_uppercase(), &path, &headers, "{}").await.status;
            assert!(![404, 405, 500].contains(&status), "{method} {path}: {status}");
            let known = &operations[method]["responses"];
            assert!(known.get(status.to_string()).is_some(), "{method} {path}: {status} is not in the document");
        }
    }
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["plus.args"]["required"], serde_json::json!(["a"]));
    assert_eq!(
        schemas["resized.args"]["properties"]["sizes"]["items"]["$ref"],
        "#/components/schemas/resized.args.Size"
    );
    assert_eq!(schemas["resized.args.Size"]["properties"]["width"]["type"], "integer");
    let done =
        &document["paths"]["/v1/registry/resized"]["post"]["responses"]["200"]["content"]["application/json"]["schema"];
    assert_eq!(done["allOf"][1]["properties"]["returning"]["items"]["$ref"], "#/components/schemas/resized.item");
    site.app.shutdown().await.unwrap();
}

/// The records of the document are those of the library.
#[tokio::test]
async fn the_document_knows_every_field_of_a_record() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"count","args":[1]}"#).await;
    site.ended(&id).await;
    let shown = site.get(&format!("/v1/tasks/{id}?include=returning")).await.json();
    let document = site.get("/openapi.json").await.json();
    let known = &document["components"]["schemas"]["Task"];
    for field in shown.as_object().unwrap().keys() {
        assert!(known["properties"].get(field).is_some(), "{field}");
    }
    for field in known["required"].as_array().unwrap() {
        assert!(shown.get(field.as_str().unwrap()).is_some(), "{field}");
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_is_added_by_its_own_route() {
    let site = Site::new().await;
    let headers = [("content-type", "application/json"), ("prefer", "wait=30")];
    let done = site.call("POST", "/v1/registry/plus", &headers, r#"{"a":2,"b":3}"#).await;
    assert_eq!((done.status, &done.json()["returning"]), (200, &5.into()));
    assert!(done.header("location").starts_with("/v1/tasks/"), "{}", done.header("location"));
    assert_eq!(
        site.call("POST", "/v1/registry/plus", &headers, r#"{"c":2}"#).await.problem(),
        (422, "invalid".into(), String::new())
    );
    assert_eq!(site.call("POST", "/v1/registry/pluss", &headers, "{}").await.problem().0, 404);
    site.app.shutdown().await.unwrap();
}
