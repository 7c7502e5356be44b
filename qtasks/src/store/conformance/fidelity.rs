//! What comes out is what went in.

use super::*;

cases! {
    /// Whatever JSON can hold.
    data_comes_back_byte_for_byte(store, _) {
        let long = format!("\"{}\"", "x".repeat(1 << 20));
        let values = [
            r#""\u0000 nul, \u2028 line, ü, 🦀""#, "\"\u{2028}\"", "18446744073709551615", "-9223372036854775808",
            "1e308", "-0.0", "0.1", "\"\"", "[]", "{}", "null", "[[[[[[[[[[1]]]]]]]]]]", " {\"b\": 1,  \"a\":2} ", &long,
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
        let read = Read { id, from_seq: 1, limit: 99, what: What::Events };
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
}
