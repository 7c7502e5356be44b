//! Adding, listing, showing, cancelling, doing again.

use super::*;

#[tokio::test]
async fn a_task_is_added_and_shown() {
    let site = Site::new().await;
    let added =
        site.post("/v1/tasks", r#"{"task":"count","args":{"n":3},"priority":-2,"tags":["x"],"queue":"q"}"#).await;
    assert_eq!(added.status, 202);
    let record = added.json();
    let id = record["id"].as_str().unwrap();
    assert_eq!(added.header("location"), format!("/v1/tasks/{id}"));
    assert_eq!((&record["name"], &record["priority"], &record["queue"]), (&"count".into(), &(-2).into(), &"q".into()));
    site.ended(id).await;
    let shown = site.get(added.header("location")).await.json();
    let stored = site.app.task(id.parse().unwrap()).await.unwrap().record().await.unwrap();
    assert_eq!(shown, serde_json::to_value(&stored).unwrap(), "every field of the record");
    assert_eq!((&shown["status"], &shown["yields"]), (&"completed".into(), &3.into()));
    let all = site.get(&format!("/v1/tasks/{id}?include=returning")).await.json();
    assert_eq!(all["returning"], serde_json::json!([0, 1, 2]));
    // A task that yields nothing returns one value; one that yields text has an output.
    let plus = site.added(r#"{"task":"plus","args":{"a":4}}"#).await;
    site.ended(&plus).await;
    assert_eq!(site.get(&format!("/v1/tasks/{plus}?include=returning")).await.json()["returning"], 5);
    let staged = site.added(r#"{"task":"staged"}"#).await;
    site.ended(&staged).await;
    let both = site.get(&format!("/v1/tasks/{staged}?include=output,returning")).await.json();
    assert_eq!((&both["output"], &both["returning"]), (&"two\nlinesü".into(), &serde_json::json!(["two\nlines", "ü"])));
    assert_eq!(site.get(&format!("/v1/tasks/{plus}?include=args")).await.problem().1, "invalid");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_client_may_wait_for_the_end() {
    let site = Site::new().await;
    let headers = [("content-type", "application/json"), ("prefer", "respond-async, wait=50")];
    let done = site.call("POST", "/v1/tasks", &headers, r#"{"task":"count","args":[4]}"#).await;
    assert_eq!((done.status, done.header("preference-applied")), (200, "wait"));
    assert_eq!(done.json()["returning"], serde_json::json!([0, 1, 2, 3]));
    let headers = [("content-type", "application/json"), ("prefer", "wait=0")];
    let late = site.call("POST", "/v1/tasks", &headers, r#"{"task":"gated","args":{"n":1}}"#).await;
    assert_eq!((late.status, late.header("preference-applied")), (202, "wait"));
    assert!(late.json().get("returning").is_none());
    let headers = [("content-type", "application/json"), ("accept", "text/event-stream")];
    let streamed = site.call("POST", "/v1/tasks", &headers, r#"{"task":"count","args":{"n":2}}"#).await;
    assert_eq!(
        (streamed.status, told(&Parser::of(&streamed.text)).join(" ")),
        (200, "started 0 1 completed".to_owned())
    );
    assert!(streamed.header("location").starts_with("/v1/tasks/"));
    site.gate.add_permits(9);
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_key_adds_a_task_once() {
    let site = Site::new().await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "\"k1\"")];
    let body = r#"{"task":"plus","args":{"a":1}}"#;
    let first = site.call("POST", "/v1/tasks", &headers, body).await.json();
    let again = site.call("POST", "/v1/tasks", &headers, body).await.json();
    assert_eq!(first["id"], again["id"]);
    let other = site.call("POST", "/v1/tasks", &headers, r#"{"task":"plus","args":{"a":2}}"#).await;
    assert_eq!(other.problem(), (409, "conflict".into(), String::new()));
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let site = Site::new().await;
    for (body, status, code, pointer, words) in [
        (r#"{"task":"coumt"}"#, 422, "unknown_task", "/task", "did you mean \"count\"?"),
        (r#"{"task":"count"}"#, 422, "invalid", "/args", "n"),
        (r#"{"task":"count","args":{"n":"five"}}"#, 422, "invalid", "/args/n", "argument `n`: invalid type: string"),
        (r#"{"task":"count","args":["five"]}"#, 422, "invalid", "/args", "argument `n`: invalid type: string"),
        (r#"{"task":"count","args":{"n":1,"m":2}}"#, 422, "invalid", "/args", "m"),
        (r#"{"args":{}}"#, 422, "invalid", "", "missing field `task`"),
        (r#"{"task":"count","prio":1}"#, 422, "invalid", "/prio", "unknown field `prio`"),
        (r#"{"task":"count","priority":70000}"#, 422, "invalid", "/priority", "i16"),
        (r#"{"task":"count","delay":"soon"}"#, 422, "invalid", "/delay", "is no duration such as"),
        (r#"{"task":"count","tags":["a",1]}"#, 422, "invalid", "/tags/1", "expected a string"),
        (r#"{"task":"count","args":{"n":1},"tags":["a\u001bb"]}"#, 422, "invalid", "", "without control characters"),
        (r#"{"task":"count","task":"plus"}"#, 422, "invalid", "", "duplicate field"),
        (r#"{"task":"count""#, 400, "invalid", "", "EOF"),
        (r#"{"task":"count"} x"#, 400, "invalid", "", "trailing"),
        ("[]", 422, "invalid", "", "invalid"),
        (
            r#"["plus",[1],null,null,null,null,null,null,null,null,[],null,null,false]"#,
            422,
            "invalid",
            "",
            "expected an object",
        ),
        (r#"{"task":"count","args":{"n":1},"queue":"no queue"}"#, 422, "invalid", "", "no queue"),
        (r#"{"task":"count","priority":18446744073709551616}"#, 422, "invalid", "/priority", "i16"),
    ] {
        let answer = site.post("/v1/tasks", body).await;
        assert_eq!(answer.problem(), (status, code.to_owned(), pointer.to_owned()), "{body}: {}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(words), "{body}: {detail}");
    }
    let deep = format!(r#"{{"task":"plus","args":{{"a":{}1{}}}}}"#, "[".repeat(500_000), "]".repeat(500_000));
    assert_eq!(site.post("/v1/tasks", &deep).await.status / 100, 4);
    let large = format!(r#"{{"task":"plus","args":{{"a":"{}"}}}}"#, "x".repeat(2 << 20));
    assert_eq!(site.post("/v1/tasks", &large).await.problem(), (413, "limit".into(), String::new()));
    for (path, status, code) in [
        ("/v1/tasks?state=queued", 400, "invalid"),
        ("/v1/tasks?status=waiting", 400, "invalid"),
        ("/v1/tasks?limit=0", 400, "invalid"),
        ("/v1/tasks?limit=1001", 400, "invalid"),
        ("/v1/tasks?cursor=zzz", 422, "invalid"),
        ("/v1/tasks?limit=18446744073709551616", 400, "invalid"),
        ("/v1/tasks/7", 404, "not_found"),
        ("/v1/tasks/00000000-0000-7000-8000-000000000000", 404, "not_found"),
        ("/v1/tasks/%ff", 404, "not_found"),
        ("/v2", 404, "not_found"),
        ("/v1/tasks/7/cancel", 405, "method_not_allowed"),
    ] {
        let answer = site.get(path).await;
        assert_eq!(answer.problem(), (status, code.to_owned(), String::new()), "{path}: {}", answer.text);
    }
    assert_eq!(site.app.stats().await.unwrap().queues.len(), 0, "nothing was added");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn tasks_are_listed_in_pages() {
    let site = Site::new().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let queue = if n % 2 == 0 { "even" } else { "odd" };
        let body = serde_json::json!({ "task": "plus", "args": [n], "held": true, "queue": queue, "tags": ["t"] });
        ids.push(site.added(&body.to_string()).await);
    }
    let named = |page: &Value| -> Vec<String> {
        page["tasks"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = site.get("/v1/tasks?status=held,queued&limit=3&tag=t").await.json();
    let next = first["next"].as_str().unwrap();
    let second = site.get(&format!("/v1/tasks?status=held,queued&limit=3&tag=t&cursor={next}")).await.json();
    let found = [named(&first), named(&second)].concat();
    ids.reverse();
    assert_eq!((found, second["next"].is_null()), (ids, true));
    assert_eq!(named(&site.get("/v1/tasks?queue=odd&task=plus").await.json()).len(), 2);
    assert_eq!(named(&site.get("/v1/tasks?status=completed").await.json()).len(), 0);
    let registry = site.get("/v1/registry").await.json();
    let plus = registry["tasks"].as_array().unwrap().iter().find(|t| t["name"] == "plus").unwrap().clone();
    assert_eq!((&plus["description"], &plus["generating"]), (&"Adds two numbers.".into(), &false.into()));
    assert_eq!(plus["args"][1], serde_json::json!({"name":"b","type":"i64","required":false,"default":"1"}));
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_answer_about_an_ended_task_may_be_kept() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"gated","args":{"n":1}}"#).await;
    let path = format!("/v1/tasks/{id}");
    let running = site.get(&path).await;
    assert_eq!((running.header("etag"), running.header("cache-control")), ("", "no-store"));
    site.gate.add_permits(1);
    site.ended(&id).await;
    for path in [path.clone(), format!("{path}?include=returning"), format!("{path}/events?format=json")] {
        let ended = site.get(&path).await;
        assert_eq!(ended.header("cache-control"), "private, max-age=31536000, immutable", "{path}");
        let again = site.call("GET", &path, &[("if-none-match", ended.header("etag"))], "").await;
        assert_eq!((again.status, again.text), (304, String::new()));
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_task_is_cancelled_and_done_again() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"gated","args":{"n":2},"queue":"q","tags":["t"]}"#).await;
    assert_eq!(site.post(&format!("/v1/tasks/{id}/retry"), "").await.problem().0, 409, "it has not ended");
    for _ in 0..2 {
        assert_eq!(site.post(&format!("/v1/tasks/{id}/cancel"), r#"{"reason":"not needed"}"#).await.status, 200);
        site.ended(&id).await;
    }
    let record = site.get(&format!("/v1/tasks/{id}")).await.json();
    assert_eq!((&record["status"], &record["cancel_reason"]), (&"cancelled".into(), &"not needed".into()));
    site.gate.add_permits(2);
    let again = site.post(&format!("/v1/tasks/{id}/retry"), "").await;
    let record = again.json();
    assert_eq!((again.status, &record["retry_of"]), (202, &id.as_str().into()));
    assert_eq!(again.header("location"), format!("/v1/tasks/{}", record["id"].as_str().unwrap()));
    assert_eq!(
        (&record["queue"], &record["tags"], &record["args"]),
        (&"q".into(), &serde_json::json!(["t"]), &serde_json::json!({"n":2}))
    );
    site.ended(record["id"].as_str().unwrap()).await;
    let done = site.get(again.header("location")).await.json();
    assert_eq!(done["status"], "completed");
    let held = site.added(r#"{"task":"plus","args":[1],"held":true}"#).await;
    for _ in 0..2 {
        assert_eq!(site.post(&format!("/v1/tasks/{held}/start"), "").await.status, 200);
        site.ended(&held).await;
    }
    assert_eq!(site.get(&format!("/v1/tasks/{held}")).await.json()["attempt"], 1, "a second start changes nothing");
    let whole = site.app.iter("plus", [1, 2]).run().await.unwrap();
    site.ended(&whole.to_string()).await;
    let answer = site.post(&format!("/v1/tasks/{whole}/retry"), "").await;
    assert_eq!(answer.problem(), (422, "invalid".into(), String::new()), "its parts are gone");
    site.app.shutdown().await.unwrap();
}

/// Whatever is only looked at stays as it is.
#[tokio::test]
async fn getting_changes_nothing() {
    let site = Site::new().await;
    let held = site.added(r#"{"task":"plus","args":[1],"held":true}"#).await;
    let done = site.added(r#"{"task":"count","args":{"n":2}}"#).await;
    site.ended(&done).await;
    let before = serde_json::to_string(&site.app.list(all()).await.unwrap()).unwrap();
    for id in [&held, &done] {
        for path in
            ["", "?include=returning", "/events?format=json", "/events?format=ndjson", "/cancel", "/retry", "/ticket"]
        {
            site.get(&format!("/v1/tasks/{id}{path}")).await;
        }
    }
    for id in [&held, &done] {
        for path in [format!("/stream/plus/{id}"), format!("/stream/suite/count/{id}"), format!("/task?task_id={id}")] {
            site.open("GET", &path, &[], "").await;
        }
    }
    for path in ["/v1/tasks", "/v1/registry", "/openapi.json", "/health", "/ready", "/metrics", "/"] {
        site.get(path).await;
    }
    assert_eq!(serde_json::to_string(&site.app.list(all()).await.unwrap()).unwrap(), before);
    site.app.shutdown().await.unwrap();
}

fn all() -> qtasks::store::List {
    qtasks::store::List { limit: 99, ..Default::default() }
}

/// The service is a part of a larger router.
#[tokio::test]
async fn it_nests_in_a_router() {
    let site = Site::new().await;
    let router = axum::Router::new().nest_service("/jobs", site.service.clone());
    let request = http::Request::post("/jobs/v1/tasks").header("content-type", "application/json");
    let answer = router.oneshot(request.body(Body::from(r#"{"task":"plus","args":[1]}"#)).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with("/jobs/v1/tasks/"), "{location}");
    site.app.shutdown().await.unwrap();
}

/// A store that can be read but not written, as on a full disk or beside a process that stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_can_not_be_written_is_not_ready_and_the_cause_is_named() {
    let path = crate::scratch().join("q.db");
    let site = Site::of(Qtasks::builder().store(format!("sqlite:{}", path.display())).tasks(SPECS())).await;
    assert_eq!(site.get("/ready").await.text, "OK");
    let lock = rusqlite::Connection::open(&path).unwrap();
    lock.busy_timeout(soon()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let start = std::time::Instant::now();
    let refused = loop {
        let answer = site.get("/ready").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(start.elapsed() < soon(), "it says that it is ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(site.get("/health").await.text, "OK");
    let add = site.post("/v1/tasks", r#"{"task":"plus","args":[1]}"#).await;
    for answer in [refused, add] {
        assert_eq!(answer.problem(), (503, "unavailable".into(), String::new()));
        assert!(answer.text.contains("in use by another process"), "{}", answer.text);
        assert!(!answer.text.contains("q.db"), "a path is in {}", answer.text);
    }
    lock.execute_batch("COMMIT").unwrap();
    while site.get("/ready").await.status != 200 {
        assert!(start.elapsed() < soon() * 2, "it is not ready again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.added(r#"{"task":"plus","args":[1]}"#).await;
    site.app.shutdown().await.unwrap();
}
