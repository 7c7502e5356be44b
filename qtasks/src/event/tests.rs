use super::*;
use crate::task::FailureKind;

fn log() -> DraftBuilder {
    let mut draft = DraftBuilder::default();
    draft.started(0, "w");
    draft.yielded(0, 7, b"\"a\"");
    draft.custom(1, 9, "stage", &Json::of(&[1, 2]).unwrap());
    draft.yielded(1, 8, b"{\"n\":1}");
    draft.rewind(1);
    draft.yielded(1, 5, b"2");
    draft.retry(2, &TaskFailure::new(FailureKind::Error, "no"), Duration::from_secs(2));
    draft.completed(2, b"3");
    draft
}

fn stamped() -> EventBatch {
    log().finish().stamp(Stamp { seq: 11, epoch: 3, attempt: 2, at: from_ms(1_000) })
}

#[test]
fn a_batch_is_what_was_drafted() {
    let kinds: Vec<_> = stamped().iter().map(|e| e.to_event().kind).collect();
    assert_eq!(kinds[0], EventKind::Started { worker: "w".into() });
    assert_eq!(kinds[1], EventKind::Yield { index: 0, hash: 7, value: Json::of("a").unwrap() });
    let data = Json::of(&[1, 2]).unwrap();
    assert_eq!(kinds[2], EventKind::Event { index: 1, name: "stage".into(), data });
    assert_eq!(kinds[4], EventKind::Rewind { to: 1 });
    let EventKind::Retry { at, .. } = kinds[6] else { panic!("{kinds:?}") };
    assert_eq!(at, from_ms(3_000));
    assert_eq!(kinds[7], EventKind::Completed { final_value: Some(Json::of(&3).unwrap()) });
    let seqs: Vec<_> = stamped().iter().map(|e| e.seq).collect();
    assert_eq!(seqs, (11..19).collect::<Vec<_>>());
}

#[test]
fn slices_keep_their_places() {
    let part = stamped().slice(13, 3);
    assert_eq!((part.first_seq(), part.end_seq(), part.len()), (13, 16, 3));
    assert_eq!(part.iter().map(|e| e.seq).collect::<Vec<_>>(), [13, 14, 15]);
    assert_eq!(part.event(1).unwrap().data, b"{\"n\":1}");
    assert!(part.event(3).is_none());
    assert!(stamped().slice(99, 3).is_empty());
    assert_eq!(stamped().slice(1, 2).first_seq(), 11);
}

#[test]
fn batches_survive_bytes_and_merging() {
    let all = stamped();
    let text = serde_json::to_string(&all).unwrap();
    let copy: EventBatch = serde_json::from_str(&text).unwrap();
    let events = |b: &EventBatch| b.iter().map(|e| e.to_event()).collect::<Vec<_>>();
    assert_eq!(events(&copy), events(&all));
    let next = log().finish().stamp(Stamp { seq: 19, epoch: 3, attempt: 2, at: from_ms(1_500) });
    let merged = all.slice(14, 99).merge(&next).unwrap();
    assert_eq!(events(&merged), [events(&all.slice(14, 99)), events(&next)].concat());
    let gap = log().finish().stamp(Stamp { seq: 20, epoch: 3, attempt: 2, at: from_ms(1_500) });
    assert!(all.merge(&gap).is_none());
}

#[test]
fn what_a_rewind_makes_void() {
    let all = stamped();
    let rewinds = [Rewind { seq: 15, to: 1 }];
    let void: Vec<_> = all.iter().filter(|e| is_void(e, &rewinds)).map(|e| e.seq).collect();
    assert_eq!(void, [14]);
    let rewinds = [Rewind { seq: 15, to: 0 }];
    let void: Vec<_> = all.iter().filter(|e| is_void(e, &rewinds)).map(|e| e.seq).collect();
    assert_eq!(void, [12, 13, 14]);
}

#[test]
fn a_name_of_a_connection_or_of_the_queue_is_refused_with_the_reason() {
    let refused = |name: &str| check_event_name(name).unwrap_err().to_string();
    let browser = "is what a browser calls its connection's own (`error`, `message`, `open`)";
    assert_eq!(
        refused("error"),
        format!("the name of the event `error` {browser}: to fail the task return an error from it")
    );
    for name in ["message", "open"] {
        assert_eq!(refused(name), format!("the name of the event `{name}` {browser}: take another one"));
    }
    let names = ["started", "yield", "log", "rewind", "reset", "retry", "completed", "failed", "cancelled"];
    for name in names {
        let way_out = match name {
            "started" => "`start` is free",
            "completed" => "`complete` is free",
            _ => "take another one",
        };
        let queue = format!("is what the queue calls its own (`{}`)", names.join("`, `"));
        assert_eq!(refused(name), format!("the name of the event `{name}` {queue}: {way_out}"));
    }
    assert!(refused("no spaces").contains("it takes 1 to 128 bytes of letters"), "as any name");
    for free in ["start", "progress", "complete", "stage", "Error", "messages", "reopen"] {
        check_event_name(free).unwrap();
    }
}

#[test]
fn a_part_is_cut_by_bytes_and_stands_alone_once_it_is_compact() {
    let mut draft = DraftBuilder::default();
    for i in 0..6_u64 {
        draft.yielded(i, i + 7, &vec![b'0' + i as u8; 10 * (i as usize + 1)]);
    }
    let at = from_ms(5_000);
    let batch = draft.finish().stamp(Stamp { seq: 11, epoch: 3, attempt: 2, at });
    assert_eq!((batch.data_bytes(), batch.slice(13, 2).data_bytes(), batch.slice(17, 9).data_bytes()), (210, 70, 0));
    let cut = |from_seq: u64, bytes_max: usize| batch.slice(from_seq, usize::MAX).first_bytes(bytes_max).len();
    assert_eq!([cut(11, 0), cut(11, 29), cut(11, 30), cut(11, usize::MAX), cut(16, 1), cut(17, 1)], [1, 1, 2, 6, 1, 0]);
    let part = batch.slice(13, 2).compact();
    assert_eq!((part.bytes(), part.first_seq(), part.end_seq()), (70, 13, 15), "nothing else is kept");
    let told = |batch: &EventBatch| batch.iter().map(|event| event.to_event()).collect::<Vec<_>>();
    assert_eq!(told(&part), told(&batch.slice(13, 2)));
    assert_eq!(told(&batch.slice(17, 9).compact()), []);
}
