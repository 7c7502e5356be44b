//! Who may do what, and from where.

use qtasks::http::{Scope, Tokens};

use super::*;

const READ: &str = "reading-0123456789";
const ADD: &str = "adding-00123456789";
const CANCEL: &str = "cancel-0123456789ab";
const ADMIN: &str = "admin-0123456789abc";

fn tokens() -> Tokens {
    let tokens = Tokens::none().with(READ, [Scope::Read]).unwrap().with(ADD, [Scope::Add]).unwrap();
    tokens.with(CANCEL, [Scope::Cancel]).unwrap().with(ADMIN, [Scope::Admin]).unwrap()
}

/// Every route, with every kind of token.
#[tokio::test]
async fn every_route_needs_its_scope() {
    let mut site = Site::new().await;
    let id = site.added(r#"{"task":"plus","args":[1]}"#).await;
    site.ended(&id).await;
    site.service = service(&site.app).tokens(tokens());
    let routes = [
        ("POST", "/v1/tasks".to_owned(), r#"{"task":"plus","args":[1]}"#, Some(ADD)),
        ("GET", "/v1/tasks".to_owned(), "", Some(READ)),
        ("GET", format!("/v1/tasks/{id}"), "", Some(READ)),
        ("GET", format!("/v1/tasks/{id}/events"), "", Some(READ)),
        ("POST", format!("/v1/tasks/{id}/cancel"), "", Some(CANCEL)),
        ("POST", format!("/v1/tasks/{id}/retry"), "", Some(ADD)),
        ("POST", format!("/v1/tasks/{id}/start"), "", Some(ADD)),
        ("POST", format!("/v1/tasks/{id}/ticket"), "", Some(READ)),
        ("POST", "/v1/registry/plus".to_owned(), r#"{"a":1}"#, Some(ADD)),
        ("GET", "/openapi.json".to_owned(), "", Some(READ)),
        ("GET", format!("/stream/plus/{id}"), "", Some(READ)),
        ("GET", format!("/stream/suite/plus/{id}"), "", Some(READ)),
        ("GET", format!("/task?task_id={id}&type=json"), "", Some(READ)),
        ("GET", "/v1/registry".to_owned(), "", Some(READ)),
        ("GET", "/metrics".to_owned(), "", Some(READ)),
        ("GET", "/".to_owned(), "", None),
        ("GET", "/dashboard.js".to_owned(), "", None),
        ("GET", "/dashboard.css".to_owned(), "", None),
        ("GET", "/health".to_owned(), "", None),
        ("GET", "/ready".to_owned(), "", None),
    ];
    for (method, path, body, needed) in &routes {
        for token in [None, Some("unknown-0123456789"), Some(READ), Some(ADD), Some(CANCEL), Some(ADMIN)] {
            let bearer = format!("Bearer {}", token.unwrap_or_default());
            let mut headers = vec![("content-type", "application/json")];
            headers.extend(token.map(|_| ("authorization", &*bearer)));
            let answer = site.call(method, path, &headers, body).await;
            let wanted = match (needed, token) {
                (None, _) => 200..300,
                (Some(_), None | Some("unknown-0123456789")) => 401..402,
                (Some(needed), Some(token)) if token == ADMIN || token == *needed => 200..300,
                _ => 403..404,
            };
            assert!(wanted.contains(&answer.status), "{method} {path} with {token:?}: {}", answer.status);
            if answer.status == 401 {
                assert_eq!((answer.problem().1, answer.header("www-authenticate")), ("unauthorized".into(), "Bearer"));
            }
            if let Some(token) = token {
                assert!(!answer.text.contains(token), "a token is in an answer");
            }
        }
    }
    // Whoever adds a task may not watch it for that alone.
    let bearer = format!("bearer {ADD}");
    let headers = [("content-type", "application/json"), ("authorization", &*bearer), ("accept", "text/event-stream")];
    let answer = site.call("POST", "/v1/tasks", &headers, r#"{"task":"plus","args":[1]}"#).await;
    assert_eq!(answer.problem().1, "forbidden");
    let headers = [("content-type", "application/json"), ("authorization", &*bearer), ("prefer", "wait=9")];
    let answer = site.call("POST", "/v1/tasks", &headers, r#"{"task":"plus","args":[1]}"#).await;
    assert_eq!((answer.status, answer.json().get("returning")), (202, None));
    site.app.shutdown().await.unwrap();
}

/// What is neither told who may use it nor to let everybody in lets nobody in.
#[tokio::test]
async fn nobody_gets_in_unless_it_is_said() {
    let mut site = Site::new().await;
    site.service = service(&site.app);
    assert_eq!(site.get("/v1/tasks").await.status, 401);
    let bearer = [("authorization", "Bearer "), ("content-type", "application/json")];
    assert_eq!(site.call("POST", "/v1/tasks", &bearer, "{}").await.status, 401);
    assert_eq!(site.get("/health").await.text, "OK");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_ticket_lets_a_browser_watch_one_task() {
    let mut site = Site::new().await;
    let (one, other) = (site.added(r#"{"task":"count","args":[2]}"#).await, site.added(r#"{"task":"staged"}"#).await);
    site.service = service(&site.app).tokens(tokens());
    let bearer = format!("Bearer {READ}");
    let headers = [("content-type", "application/json"), ("authorization", &*bearer)];
    let ask = format!("/v1/tasks/{one}/ticket");
    let made = site.call("POST", &ask, &headers, r#"{"expires":"1h"}"#).await.json();
    let ticket = made["ticket"].as_str().unwrap();
    assert!(!ticket.contains(READ));
    let read = site.get(&format!("/v1/tasks/{one}/events?ticket={ticket}")).await;
    assert_eq!(told(&Parser::of(&read.text)).join(" "), "started 0 1 completed");
    // For nothing else, and no other task.
    assert_eq!(site.get(&format!("/v1/tasks/{other}/events?ticket={ticket}")).await.status, 401);
    assert_eq!(site.get(&format!("/v1/tasks/{one}?ticket={ticket}")).await.status, 401);
    // In no other spelling.
    let (until, signature) = ticket.split_once('.').unwrap();
    for other in [
        format!("{ticket}0"),
        format!("{ticket}="),
        format!("{ticket}%20"),
        format!("0{ticket}"),
        format!("%2B{ticket}"),
        format!("{until}.{}", signature.to_uppercase()),
    ] {
        assert_eq!(site.get(&format!("/v1/tasks/{one}/events?ticket={other}")).await.status, 401, "{other}");
    }
    let over = site.call("POST", &ask, &headers, r#"{"expires":"0s"}"#).await.json();
    let over = over["ticket"].as_str().unwrap();
    let refused = site.get(&format!("/v1/tasks/{one}/events?ticket={over}")).await;
    assert!(refused.status == 401 && refused.text.contains("the ticket is over"), "{}", refused.text);
    let long = site.call("POST", &ask, &headers, r#"{"expires":"2days"}"#).await;
    assert_eq!(long.problem(), (400, "invalid".into(), "/expires".into()));
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_page_of_another_origin_changes_nothing() {
    let mut site = Site::new().await;
    let body = r#"{"task":"plus","args":[1]}"#;
    let json = ("content-type", "application/json");
    let here = ("host", "127.0.0.1:7717");
    let status =
        async |site: &Site, headers: &[(&str, &str)]| site.call("POST", "/v1/tasks", headers, body).await.status;
    assert_eq!(status(&site, &[here]).await, 415, "a form could send this");
    assert_eq!(status(&site, &[here, ("content-type", "text/plain")]).await, 415);
    assert_eq!(status(&site, &[here, ("content-type", "Application/JSON; charset=utf-8")]).await, 202);
    assert_eq!(status(&site, &[here, json, ("origin", "http://evil.example")]).await, 403);
    assert_eq!(status(&site, &[here, json, ("origin", "null")]).await, 403);
    assert_eq!(status(&site, &[here, json, ("origin", "http://127.0.0.1:7717")]).await, 202);
    let preflight = site.call("OPTIONS", "/v1/tasks", &[here, ("origin", "http://evil.example")], "").await;
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (405, ""));
    // Of each route that changes something.
    let id = site.added(r#"{"task":"plus","args":[1],"held":true}"#).await;
    let document = site.get("/openapi.json").await.json();
    let posts = document["paths"].as_object().unwrap().iter().filter(|(_, taken)| taken.get("post").is_some());
    let posts: Vec<String> = posts.map(|(path, _)| path.replace("{id}", &id)).collect();
    assert!(posts.len() > 6, "{posts:?}");
    for path in posts {
        let (plain, json) = (("content-type", "text/plain"), ("content-type", "application/json"));
        let form = site.call("POST", &path, &[here, plain], "{}").await;
        assert_eq!(form.problem().1, "media_type", "{path}");
        let script = site.call("POST", &path, &[here, json, ("origin", "http://evil.example")], "{}").await;
        assert_eq!(script.problem().1, "origin", "{path}");
    }
    // Whatever a page of another origin says of itself, and however it is asked.
    for foreign in [
        &[("sec-fetch-site", "cross-site")][..],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:7717")],
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        &[("origin", "http://127.0.0.1:7717"), ("origin", "http://evil.example")],
        &[("origin", "http://evil.example"), ("authorization", "Bearer x")],
        &[("sec-fetch-site", "cross-site"), ("authorization", "Bearer any-0123456789abcdef")],
        &[("origin", "null"), ("authorization", "Basic YTpi")],
    ] {
        let mut headers = vec![here, json];
        headers.extend(foreign);
        for path in
            ["/v1/tasks", "/v1/registry/plus", &format!("/v1/tasks/{id}/cancel"), &format!("/v1/tasks/{id}/start")]
        {
            let refused = site.call("POST", path, &headers, body).await;
            assert_eq!((refused.status, refused.problem().1), (403, "origin".into()), "{path} with {foreign:?}");
        }
    }
    // Without a `Host` there is no origin that is the same.
    assert_eq!(status(&site, &[json, ("origin", "null")]).await, 403);
    let own = [("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:7717")];
    assert_eq!(status(&site, &[here, json, own[0], own[1]]).await, 202);
    assert_eq!(status(&site, &[here, json, ("sec-fetch-site", "none")]).await, 202);
    // With a token it is not the browser that lets it in, and nothing at all need not be said to be JSON.
    site.service = service(&site.app).tokens(tokens());
    let bearer = format!("Bearer {ADD}");
    let held = format!("/v1/tasks/{id}/start");
    for (body, kind, expected) in [("", None, 200), ("{}", None, 415), ("", Some("text/plain"), 415)] {
        let mut headers = vec![here, ("authorization", &*bearer)];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        assert_eq!(site.call("POST", &held, &headers, body).await.status, expected, "{body:?} as {kind:?}");
    }
    for foreign in [("origin", "http://app.example"), ("sec-fetch-site", "cross-site")] {
        assert_eq!(status(&site, &[here, json, ("authorization", &bearer), foreign]).await, 202);
        let unknown = ("authorization", "Bearer unknown-0123456789");
        assert_eq!(status(&site, &[here, json, unknown, foreign]).await, 403);
        // Of two it is not known which one is meant.
        assert_eq!(status(&site, &[here, json, ("authorization", &bearer), unknown, foreign]).await, 403);
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn it_answers_to_its_own_names_only() {
    let mut site = Site::new().await;
    site.service = service(&site.app).no_auth().hosts(["jobs.example", "[::1]"]);
    for (host, status) in [
        ("jobs.example", 200),
        ("JOBS.example:80", 200),
        ("[::1]:7717", 200),
        ("[::1]", 200),
        ("evil.example", 421),
        ("jobs.example.evil.example", 421),
        ("", 421),
    ] {
        assert_eq!(site.call("GET", "/health", &[("host", host)], "").await.status, status, "{host}");
    }
    assert_eq!(site.get("/health").await.problem().1, "host", "none at all");
    // Two, of which what is between may have looked at the other one.
    for second in ["jobs.example", "evil.example"] {
        let two = [("host", "jobs.example"), ("host", second)];
        let refused = site.call("GET", "/health", &two, "").await;
        assert_eq!((refused.status, refused.problem().1), (400, "host".into()), "{second}");
    }
    let two = [("host", "jobs.example")];
    let refused = site.call("GET", "http://evil.example/health", &two, "").await;
    assert_eq!((refused.status, refused.problem().1), (400, "host".into()));
    assert_eq!(site.call("GET", "http://jobs.example/health", &two, "").await.status, 200);
    assert_eq!(site.call("GET", "http://jobs.example/health", &[], "").await.status, 200);
    site.app.shutdown().await.unwrap();
}
