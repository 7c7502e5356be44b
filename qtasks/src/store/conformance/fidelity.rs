//! What comes out is what went in.

use super::*;

cases! {
    /// Whatever JSON can hold.
    data_comes_back_byte_for_byte(store, _) {
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let values = [
            r#""\u0000 nul, \u2028 line, ü, 🦀""#, "\"\u{2028}\"", "18446744073709551615", "-9223372036854775808",
            "1e308", "-0.0", "0.1", "\"\"", "[]", "{}", "null", "[[[[[[[[[[1]]]]]]]]]]",
            " {\"b\": 1,  \"a\":2} ", &long,
        ];
        let args = Json::parse(r#"{"b":1,"a":[18446744073709551615,"\u0000"]}"#).unwrap();
        let id = add(&*store, NewTask { args: args.clone(), ..new("a") }).await;
        let task = claim_one(&*store).await;
        assert_eq!(task.record.args, args);
        let write = |d: &mut DraftBuilder| {
            for (i, value) in (0..).zip(values) {
                d.yielded(i, u64::MAX - i, value.as_bytes());
            }
            d.custom(values.len() as u64, 1, "x", &args);
            d.completed(values.len() as u64, long.as_bytes());
        };
        append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
        let read = Read { id, from_seq: 1, limit: 99, bytes_max: usize::MAX, what: What::Events };
        let slice = store.read(read).await.unwrap();
        let all: Vec<_> = slice.events.iter().flat_map(|b| b.iter().collect::<Vec<_>>()).collect();
        for ((i, value), event) in (0..).zip(values).zip(&all) {
            assert_eq!(event.code, EventCode::Yield);
            assert_eq!((event.index, event.hash), (i, u64::MAX - i));
            assert!(event.data == value.as_bytes(), "value {i}");
        }
        let EventKind::Event { data, .. } = all[values.len()].to_event().kind else { panic!() };
        assert_eq!(data, args);
        assert_eq!(record(&*store, id).await.final_value.unwrap().as_str(), long);
    }

    /// In every place that holds JSON: spelling of numbers, order of keys, escapes, blanks.
    json_keeps_its_spelling(store, _) {
        let deep = format!("{}1{}", "[".repeat(127), "]".repeat(127));
        let deep_map = format!("{}1{}", "{\"a\":".repeat(127), "}".repeat(127));
        let values = [
            "1", "1.0", "1.00", "1e5", "1E+5", "100000", "-0", "-0.0", "1e400", "0.1000000000000000055511151231257827",
            "9223372036854775807", "9223372036854775808", "-9223372036854775809", "123456789012345678901234567890",
            r#"{"b":1,"a":2,"B":3}"#, r#"{"a":1,"a":2}"#, r#"{ "a" : [ 1 , 2 ] }"#, r#"{"":{}}"#, r#""\u0041\/\b""#,
            r#""\ud800""#, r#""\udc00\ud800 \u0000""#, "\"\u{7f}\u{2029}\u{feff}\"", "\"e\u{301} \u{e9}\"",
            "\"\u{10ffff}\"", "true", "[null]", "\"null\"", "\"'; -- %s {} $1 ?1\"", &deep, &deep_map,
        ];
        for text in values {
            let json = Json::parse(text).unwrap();
            let id = add(&*store, NewTask { args: json.clone(), ..new("a") }).await;
            let task = claim_one(&*store).await;
            assert_eq!(task.record.args.as_str(), text);
            let write = |d: &mut DraftBuilder| {
                d.yielded(0, 1, text.as_bytes());
                d.custom(1, 2, "x", &json);
            };
            let some = append(&task, 0, Outcome::Running, write);
            append_one(&*store, Append { checkpoint: Some(json.clone()), ..some }).await;
            store.release(vec![lease(&task)]).await.unwrap();
            let task = claim_one(&*store).await;
            assert_eq!(task.last_yield.as_ref().map(Json::as_str), Some(text));
            assert_eq!(task.checkpoint.as_ref().map(Json::as_str), Some(text));
            append_one(&*store, append(&task, 2, Outcome::Ended, |d| d.completed(1, text.as_bytes()))).await;
            let r = record(&*store, id).await;
            assert_eq!((r.args.as_str(), r.final_value.as_ref().map(Json::as_str)), (text, Some(text)));
            let kinds: Vec<_> = events(&*store, id).await.into_iter().map(|e| e.kind).collect();
            let [EventKind::Yield { value, .. }, EventKind::Event { data, .. }, EventKind::Completed { final_value }] =
                &kinds[..]
            else {
                panic!("{kinds:?}")
            };
            assert_eq!((value.as_str(), data.as_str()), (text, text));
            assert_eq!(final_value.as_ref().map(Json::as_str), Some(text));
        }
    }

    /// A log tells no value from the value `null`. A record may say either for both: who reads it takes one for the
    /// other.
    nothing_is_not_null(store, _) {
        for (written, kept) in [("", None), ("null", Some("null")), ("\"\"", Some("\"\""))] {
            let id = add(&*store, new("a")).await;
            let task = claim_one(&*store).await;
            append_one(&*store, append(&task, 0, Outcome::Ended, |d| d.completed(0, written.as_bytes()))).await;
            let r = record(&*store, id).await;
            let value = r.final_value.as_ref().map_or("null", Json::as_str);
            assert_eq!(value, kept.unwrap_or("null"));
            let EventKind::Completed { final_value } = &events(&*store, id).await[0].kind else { panic!() };
            assert_eq!(final_value.as_ref().map(Json::as_str), kept);
            assert_eq!((r.error, r.cancel_reason, r.parent, r.retry_of), (None, None, None, None));
        }
    }

    /// In reasons, failures, names of workers, tags and keys.
    text_comes_back_as_it_went_in(store, _) {
        let long = "\u{1f980}".repeat(20_000);
        let texts = [
            "", " ", "two\nlines\r\n\ttab", "\"quoted\" 'and' `so`", "back\\slash", "\u{2028}\u{2029}\u{feff}",
            "\u{e9} e\u{301}",
            "\u{1f980}\u{10ffff}", "nul \0 nul", "%_$1?{}", "null", "{\"a\":1}", "1", &long,
        ];
        for text in texts {
            let id = add(&*store, NewTask { tags: vec![text.into(), "x".into(), String::new()], ..new("a") }).await;
            let task = store.claim(claim(text, 1)).await.unwrap().tasks.remove(0);
            assert_eq!(task.record.worker.as_deref(), Some(text));
            assert_eq!(task.record.tags, [text, "x", ""]);
            store.cancel(id, text.into()).await.unwrap();
            assert_eq!(record(&*store, id).await.cancel_reason.as_deref(), Some(text));
            assert_eq!(store.extend(vec![lease(&task)], LEASE).await.unwrap(), [Extended::Cancel(text.into())]);
            store.release(vec![lease(&task)]).await.unwrap();
            let r = record(&*store, id).await;
            assert_eq!((r.cancel_reason.as_deref(), r.worker.as_deref()), (Some(text), Some(text)));
            let EventKind::Cancelled { reason } = &events(&*store, id).await[0].kind else { panic!() };
            assert_eq!(reason, text);

            let id = add(&*store, new("b")).await;
            let task = claim_one(&*store).await;
            let mut failure = TaskFailure::new(FailureKind::Handler, text).in_attempt(1);
            failure.index = Some(u64::MAX);
            let write = |d: &mut DraftBuilder| {
                d.started(0, text);
                d.failed(0, &failure);
            };
            append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
            assert_eq!(record(&*store, id).await.error.as_ref(), Some(&failure));
            let all = events(&*store, id).await;
            assert_eq!(all[0].kind, EventKind::Started { worker: text.to_owned() });
            assert_eq!(all[1].kind, EventKind::Failed { error: failure });
        }
    }

    /// Every kind of failure, and every code of an event.
    every_kind_comes_back(store, _) {
        use FailureKind::{Cancelled, Codec, Error, Handler, Limit, Lost, Middleware, Panic, TimeLimit};
        for kind in [Error, Handler, Panic, TimeLimit, Cancelled, Codec, Limit, Lost, Middleware] {
            let id = add(&*store, new("a")).await;
            let task = claim_one(&*store).await;
            let failure = TaskFailure::new(kind, "no");
            let write = |d: &mut DraftBuilder| {
                d.started(0, "w");
                d.yielded(0, 7, b"1");
                d.custom(1, 8, "x", &Json::null());
                d.rewind(0);
                d.failed(0, &failure);
            };
            append_one(&*store, append(&task, 0, Outcome::Ended, write)).await;
            assert_eq!(record(&*store, id).await.error, Some(failure));
            let slice = store.read(Read { id, from_seq: 1, limit: 9, bytes_max: usize::MAX, what: What::Events }).await.unwrap();
            let all: Vec<_> = slice.events.iter().flat_map(|b| b.iter().map(|e| (e.code, e.index, e.hash))).collect();
            let wanted = [
                (EventCode::Started, 0, 0),
                (EventCode::Yield, 0, 7),
                (EventCode::Event, 1, 8),
                (EventCode::Rewind, 0, 0),
                (EventCode::Failed, 0, 0),
            ];
            assert_eq!(all, wanted);
        }
    }
}
