//! What is there for Prometheus and for browsers.

use qtasks::http::{Config, Scope, Tokens};

use super::*;

#[tokio::test]
async fn the_gauges_tell_what_is_in_the_store() {
    let mut site = Site::new().await;
    for body in [r#"{"task":"plus","args":[1]}"#, r#"{"task":"plus","args":[1]}"#, r#"{"task":"fails","args":[0]}"#] {
        let id = site.added(body).await;
        site.ended(&id).await;
    }
    site.added(r#"{"task":"plus","args":[1],"held":true,"queue":"slow"}"#).await;
    site.app.pause("slow").await.unwrap();
    let answer = site.get("/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "# TYPE qtasks_tasks gauge",
        "qtasks_tasks{queue=\"default\",status=\"completed\"} 2",
        "qtasks_tasks{queue=\"default\",status=\"failed\"} 1",
        "qtasks_tasks{queue=\"default\",status=\"queued\"} 0",
        "qtasks_tasks{queue=\"slow\",status=\"held\"} 1",
        "qtasks_queue_paused{queue=\"slow\"} 1",
        "qtasks_queue_paused{queue=\"default\"} 0",
    ] {
        assert!(answer.text.lines().any(|told| told == line), "{line} is not in\n{}", answer.text);
    }
    // What the program counts comes behind it, by the service and by the listener.
    site.service = service(&site.app).no_auth().metrics(|| "jobs_seen_total 7\n".to_owned());
    assert!(site.get("/metrics").await.text.ends_with("\njobs_seen_total 7\n"));
    let config = Config::default().listen("127.0.0.1:0").no_auth().metrics(|| "jobs_seen_total 8\n".to_owned());
    let server = site.app.serve(config).await.unwrap();
    let url = format!("{}/metrics", server.url());
    assert!(reqwest::get(url).await.unwrap().text().await.unwrap().ends_with("\njobs_seen_total 8\n"));
    site.app.shutdown().await.unwrap();
}

/// The page is for everybody, since what it shows it asks for with a token. What it runs comes from here.
#[tokio::test]
async fn the_page_and_what_it_needs_come_from_here() {
    let mut site = Site::new().await;
    site.service = service(&site.app).tokens(Tokens::none().with("reading-0123456789", [Scope::Read]).unwrap());
    let page = site.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"));
    assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!page.text.contains("<script>") && !page.text.contains(" style="), "nothing stands in the page itself");
    for (name, kind) in
        [("dashboard.js", "text/javascript; charset=utf-8"), ("dashboard.css", "text/css; charset=utf-8")]
    {
        assert!(page.text.contains(&format!("\"{name}\"")), "{name} is asked for beside the page");
        let file = site.get(&format!("/{name}")).await;
        assert_eq!((file.status, file.header("content-type")), (200, kind));
        assert!(!file.text.contains("innerHTML"), "what tasks say is never markup");
    }
    // Nested, it is where its files and the routes are beside it.
    let router = axum::Router::new().nest_service("/in/jobs", site.service.clone());
    let request = http::Request::get("/in/jobs").body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(request).await.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (308, &"jobs/".parse().unwrap()));
    let request = http::Request::get("/in/jobs/").body(Body::empty()).unwrap();
    assert_eq!(router.oneshot(request).await.unwrap().status(), 200);
    site.app.shutdown().await.unwrap();
}
