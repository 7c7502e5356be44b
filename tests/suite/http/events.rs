//! Logs: as server-sent events, as lines, as pages.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The text of a log without what differs from run to run.
fn plain(text: &str, id: &str) -> String {
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.replace(id, "ID");
        out.push(match line.split_once(": ") {
            Some(("id", id)) => format!("id: {}", id.split('-').next().unwrap()),
            Some(("data", data)) if data.starts_with("{\"seq\"") => "data: …".to_owned(),
            _ => line,
        });
    }
    out.join("\n")
}

#[tokio::test]
async fn a_log_as_browsers_read_it() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"staged"}"#).await;
    let answer = site.get(&format!("/v1/tasks/{id}/events")).await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!((answer.header("x-accel-buffering"), answer.header("cache-control")), ("no", "no-store"));
    assert_eq!(
        plain(&answer.text, &id),
        "retry: 2000\nevent: started\nid: 1\ndata: …\n\nevent: start\nid: 2\ndata: {\"of\":\"all\"}\n\nid: 3\ndata: \"two\\nlines\"\n\n\
         event: progress\nid: 4\ndata: 50\n\nid: 5\ndata: \"ü\"\n\nevent: completed\nid: 6\ndata: …\n"
    );
    let sent = Parser::of(&answer.text);
    let end = sent.last().unwrap().json();
    assert_eq!((&end["kind"], &end["seq"], &end["attempt"]), (&"completed".into(), &6.into(), &1.into()));
    // How it failed stands in the last event.
    let failed = site.added(r#"{"task":"fails","args":[1]}"#).await;
    let sent = Parser::of(&site.get(&format!("/v1/tasks/{failed}/events")).await.text);
    assert_eq!(told(&sent).join(" "), "started 0 failed");
    assert_eq!(sent[2].json()["error"]["kind"], serde_json::to_value(FailureKind::Error).unwrap());
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"count","args":[5]}"#).await;
    let path = format!("/v1/tasks/{id}/events");
    let all = Parser::of(&site.get(&path).await.text);
    assert_eq!(told(&all).join(" "), "started 0 1 2 3 4 completed");
    for (at, event) in all.iter().enumerate() {
        let rest = site.call("GET", &path, &[("last-event-id", &event.id)], "").await;
        if at + 1 == all.len() {
            assert_eq!((rest.status, rest.text.as_str()), (204, ""), "past the end");
        } else {
            assert_eq!(Parser::of(&rest.text), all[at + 1..], "after {}", event.id);
        }
        // The header counts, whatever the address says.
        let rest = site.call("GET", &format!("{path}?from=1"), &[("last-event-id", &all[2].id)], "").await;
        assert_eq!(Parser::of(&rest.text), all[3..]);
        assert_eq!(Parser::of(&site.get(&format!("{path}?from={}", at + 1)).await.text), all[at..]);
    }
    assert_eq!(site.get(&format!("{path}?from=8")).await.status, 204);
    // Of another history: another epoch, a seq that is not there yet, an id that is none of ours.
    let (seq, epoch) = all[2].id.split_once('-').unwrap();
    for last in [format!("{seq}-{epoch}1"), "99-1".to_owned(), "abc".to_owned(), "+3-1".to_owned()] {
        let sent = Parser::of(&site.call("GET", &path, &[("last-event-id", &last)], "").await.text);
        assert_eq!((sent[0].name.as_str(), &sent[1..]), ("reset", &all[..]), "{last}");
    }
    site.app.shutdown().await.unwrap();
}

/// A connection that breaks at whatever byte: what was read before and after is always the whole.
#[tokio::test]
async fn a_stream_may_be_cut_at_every_byte() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"staged"}"#).await;
    let path = format!("/v1/tasks/{id}/events");
    let whole = site.get(&path).await.text;
    let expected = Parser::of(&whole);
    for cut in 0..=whole.len() {
        let mut parser = Parser::default();
        parser.feed(&whole.as_bytes()[..cut]);
        let last = parser.last_id.clone();
        let headers: &[(&str, &str)] = if last.is_empty() { &[] } else { &[("last-event-id", &last)] };
        let rest = site.call("GET", &path, headers, "").await;
        let joined = [parser.sent, Parser::of(&rest.text)].concat();
        assert_eq!(joined, expected, "cut at {cut}");
    }
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_watch_one_task_from_any_moment() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"gated","args":[40]}"#).await;
    let path = format!("/v1/tasks/{id}/events");
    let mut watchers = Vec::new();
    for _ in 0..40 {
        let body = site.open("GET", &path, &[], "").await.into_body();
        watchers.push(tokio::spawn(async move {
            String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
        }));
        site.gate.add_permits(1);
        tokio::task::yield_now().await;
    }
    let expected = Parser::of(&site.get(&path).await.text);
    assert_eq!(expected.len(), 42);
    for watcher in watchers {
        let text = tokio::time::timeout(soon(), watcher).await.unwrap().unwrap();
        assert_eq!(Parser::of(&text), expected);
    }
    site.app.shutdown().await.unwrap();
}

/// A second attempt that yields something else: who has what is void is told, nobody else is.
#[tokio::test]
async fn a_rewind_comes_to_those_who_have_what_is_void() {
    let site = Site::of(Qtasks::builder().store(crate::store()).tasks([changes::spec()])).await;
    let id = site.added(r#"{"task":"changes"}"#).await;
    let path = format!("/v1/tasks/{id}/events");
    let mut early = site.open("GET", &path, &[], "").await.into_body().into_data_stream();
    let mut parser = Parser::default();
    while parser.sent.len() < 3 {
        parser.feed(&early.next().await.unwrap().unwrap());
    }
    assert_eq!(told(&parser.sent).join(" "), "started 0 1");
    let (first, second) = (parser.sent[1].id.clone(), parser.sent[2].id.clone());
    site.gate.add_permits(2);
    while let Some(bytes) = early.next().await {
        parser.feed(&bytes.unwrap());
    }
    assert_eq!(told(&parser.sent).join(" "), "started 0 1 retry started rewind 2 7 completed");
    let rewind = parser.sent.iter().find(|e| e.name == "rewind").unwrap();
    assert_eq!(rewind.json()["to"], 1, "so many are kept");
    let read = async |path: &str, last: &str| {
        let headers: &[(&str, &str)] = if last.is_empty() { &[] } else { &[("last-event-id", last)] };
        told(&Parser::of(&site.call("GET", path, headers, "").await.text)).join(" ")
    };
    assert_eq!(read(&path, "").await, "started 0 retry started 2 7 completed", "late: no rewind at all");
    assert_eq!(read(&path, &first).await, "retry started 2 7 completed", "it has nothing that is void");
    assert_eq!(read(&path, &second).await, "retry started rewind 2 7 completed");
    assert_eq!(read(&path, &rewind.id).await, "2 7 completed");
    assert_eq!(read(&format!("{path}?view=all"), "").await, "started 0 1 retry started rewind 2 7 completed");
    site.app.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_log_as_lines_and_as_pages() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"gated","args":[3]}"#).await;
    let path = format!("/v1/tasks/{id}/events");
    site.gate.add_permits(2);
    let handle = site.app.task(id.parse().unwrap()).await.unwrap();
    crate::until_async(async || handle.record().await.unwrap().tail == 3).await;
    let seqs = |text: &str| -> Vec<u64> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap()).collect()
    };
    let lines = site.call("GET", &path, &[("accept", "application/x-ndjson")], "").await;
    assert_eq!((lines.header("content-type"), seqs(&lines.text)), ("application/x-ndjson", vec![1, 2, 3]), "so far");
    assert_eq!(seqs(&site.get(&format!("{path}?format=ndjson&from=3")).await.text), [3]);
    let page = site.call("GET", &format!("{path}?limit=2"), &[("accept", "application/json")], "").await.json();
    assert_eq!(
        (page["events"].as_array().unwrap().len(), &page["next"], &page["ended"]),
        (2, &3.into(), &false.into())
    );
    assert_eq!(page["events"][1]["value"], 0);
    let page = site.get(&format!("{path}?format=json&from=3")).await.json();
    assert_eq!(
        (page["events"].as_array().unwrap().len(), &page["next"], &page["ended"]),
        (1, &4.into(), &false.into())
    );
    let follow = site.open("GET", &format!("{path}?format=ndjson&follow=1"), &[], "").await.into_body();
    site.gate.add_permits(1);
    let all = tokio::time::timeout(soon(), follow.collect()).await.unwrap().unwrap().to_bytes();
    assert_eq!(seqs(std::str::from_utf8(&all).unwrap()), [1, 2, 3, 4, 5]);
    let page = site.get(&format!("{path}?format=json&from=4")).await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"], &page["ended"]), (2, &6.into(), &true.into()));
    let page = site.get(&format!("{path}?format=json&from=6")).await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["ended"]), (0, &true.into()));
    for (query, headers, status) in [
        ("?format=xml", &[][..], 400),
        ("?from=-1", &[], 400),
        ("?view=some", &[], 400),
        ("?format=sse&follow=1", &[], 400),
        ("?limit=3", &[], 400),
        ("", &[("accept", "image/png")], 406),
    ] {
        assert_eq!(site.call("GET", &format!("{path}{query}"), headers, "").await.problem().0, status, "{query}");
    }
    site.app.shutdown().await.unwrap();
}

/// So many that they are told together: each gets every value all the same, when it is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_hears_of_every_value() {
    const CROWD: usize = 300;
    let site = Site::new().await;
    let id = site.added(r#"{"task":"gated","args":[200]}"#).await;
    let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..CROWD).map(|_| AtomicUsize::new(0)).collect());
    // All wait at once: what is there already is read without being told.
    let crowd: Vec<_> = (0..CROWD)
        .map(|i| {
            let (service, path, seen) = (site.service.clone(), format!("/v1/tasks/{id}/events"), Arc::clone(&seen));
            tokio::spawn(async move {
                let request = http::Request::get(path).body(Body::empty()).unwrap();
                let mut body = service.oneshot(request).await.unwrap().into_body().into_data_stream();
                let mut parser = Parser::default();
                while let Some(bytes) = body.next().await {
                    let bytes = bytes.unwrap();
                    // After 15 s of silence it would look by itself whether there is something.
                    assert!(!bytes.starts_with(b":"), "it was not told");
                    parser.feed(&bytes);
                    seen[i].store(parser.sent.len(), Ordering::SeqCst);
                }
                parser.sent.iter().map(Sent::seq).collect::<Vec<_>>()
            })
        })
        .collect();
    let all_have = |events: usize| seen.iter().all(|seen| seen.load(Ordering::SeqCst) >= events);
    crate::until(|| all_have(1)).await;
    for (permits, yields) in [(1, 1), (1, 2), (50, 52), (2, 54), (7, 61)] {
        site.gate.add_permits(permits);
        // And the first event.
        crate::until(|| all_have(yields + 1)).await;
    }
    site.app.task(id.parse().unwrap()).await.unwrap().cancel("enough").await.unwrap();
    for seqs in crowd {
        let seqs = tokio::time::timeout(soon(), seqs).await.expect("it comes to its end").unwrap();
        assert_eq!(seqs, (1..=63).collect::<Vec<_>>());
    }
    site.app.shutdown().await.unwrap();
}

/// Whoever waits for long hears that the server is still there; the time is not real.
#[tokio::test(start_paused = true)]
async fn a_watcher_that_waits_hears_a_heartbeat() {
    let site = Site::of(Qtasks::builder().store("memory:").tasks(SPECS())).await;
    let id = site.added(r#"{"task":"gated","args":[1],"held":true}"#).await;
    let mut body = site.open("GET", &format!("/v1/tasks/{id}/events"), &[], "").await.into_body().into_data_stream();
    assert_eq!(body.next().await.unwrap().unwrap(), "retry: 2000\n");
    let before = tokio::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(body.next().await.unwrap().unwrap(), ": still here\n");
    }
    assert_eq!(before.elapsed().as_secs(), 45);
    site.app.shutdown().await.unwrap();
    assert_eq!(body.next().await.unwrap().unwrap(), "retry: 500\n", "it may come back at once");
    assert!(body.next().await.is_none());
}

/// A hundred thousand values, read by one that is slow: nothing is left out, and it does not get all at once.
#[tokio::test]
async fn a_slow_reader_is_served_from_the_store() {
    let site = Site::new().await;
    let id = site.added(r#"{"task":"count","args":[100000]}"#).await;
    let mut body = site.open("GET", &format!("/v1/tasks/{id}/events"), &[], "").await.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(first, "retry: 2000\n");
    site.ended(&id).await;
    let (mut parser, mut largest) = (Parser::default(), 0);
    while let Some(bytes) = body.next().await {
        let bytes = bytes.unwrap();
        largest = largest.max(bytes.len());
        parser.feed(&bytes);
    }
    let seqs: Vec<u64> = parser.sent.iter().map(Sent::seq).collect();
    assert_eq!(seqs, (1..=100_002).collect::<Vec<_>>());
    assert!(largest < 1 << 20, "{largest} bytes at once");
    site.app.shutdown().await.unwrap();
}

/// Yields a text of each size.
#[task]
async fn sized(sizes: Vec<usize>) -> String {
    for size in sizes {
        yield_!("x".repeat(size) + "\u{fc}");
    }
}

/// Whatever their size, and wherever a log is cut into pieces: in a store in memory, and in a file.
#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_size_come_whole_by_every_way() {
    let sizes = [1, 32_000, 40_000, 64_000, 70_000, 10, 10, 130_000, 250_000, 2, 250_000, 66_000, 5];
    let wanted: Vec<String> = sizes.iter().map(|size| "x".repeat(*size) + "\u{fc}").collect();
    let body = serde_json::json!({ "task": "sized", "args": [sizes] }).to_string();
    let file = crate::scratch().join("q.db");
    for url in ["memory:".to_owned(), format!("sqlite:{}", file.display())] {
        let site = Site::of(Qtasks::builder().store(url).tasks([sized::spec()])).await;
        let id = site.added(&body).await;
        let live = site.get(&format!("/v1/tasks/{id}/events")).await.text;
        site.ended(&id).await;
        let late = site.get(&format!("/v1/tasks/{id}/events")).await.text;
        assert_eq!(live, late);
        let events = Parser::of(&late);
        let values = |events: &[Sent]| {
            let yields = events.iter().filter(|event| event.name == "message");
            yields.map(|event| event.json().as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(values(&events) == wanted, "server-sent events");
        assert_eq!(events.iter().map(Sent::seq).collect::<Vec<_>>(), (1..=15).collect::<Vec<_>>());
        let of_json = |events: &mut dyn Iterator<Item = Value>| {
            events.filter_map(|event| event["value"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let lines = site.get(&format!("/v1/tasks/{id}/events?format=ndjson")).await.text;
        let lines = of_json(&mut lines.lines().map(|line| serde_json::from_str(line).unwrap()));
        assert!(lines == wanted, "lines");
        for limit in [1, 4, 1000] {
            let (mut paged, mut next) = (Vec::new(), Value::from(1));
            loop {
                let page =
                    site.get(&format!("/v1/tasks/{id}/events?format=json&limit={limit}&from={next}")).await.json();
                let events = page["events"].as_array().unwrap();
                assert!(events.len() <= limit && (events.len() == limit || page["ended"] == true));
                paged.extend(of_json(&mut events.iter().cloned()));
                next = page["next"].clone();
                if page["ended"] == true {
                    break;
                }
            }
            assert!(paged == wanted, "pages of {limit}");
        }
        // After any of them.
        for event in &events[..14] {
            let path = format!("/v1/tasks/{id}/events");
            let rest = site.call("GET", &path, &[("last-event-id", &*event.id)], "").await.text;
            let rest = Parser::of(&rest);
            assert_eq!(rest.iter().map(Sent::seq).collect::<Vec<_>>(), (event.seq() + 1..=15).collect::<Vec<_>>());
        }
        site.app.shutdown().await.unwrap();
    }
}
