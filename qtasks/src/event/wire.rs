//! Events as JSON: read back as whoever serves them writes them.

use std::time::SystemTime;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

use super::{Event, EventKind};
use crate::json::Json;
use crate::task::TaskFailure;

/// Every field that any kind of event has: raw JSON can't be read through `flatten`.
#[derive(Deserialize)]
struct Fields {
    seq: u64,
    epoch: u64,
    attempt: u32,
    #[serde(with = "crate::task::time")]
    at: SystemTime,
    kind: String,
    worker: Option<String>,
    index: Option<u64>,
    hash: Option<String>,
    value: Option<Json>,
    name: Option<String>,
    data: Option<Json>,
    level: Option<String>,
    target: Option<String>,
    message: Option<String>,
    fields: Option<Json>,
    to: Option<u64>,
    error: Option<TaskFailure>,
    due_at: Option<Instant>,
    final_value: Option<Json>,
    reason: Option<String>,
    code: Option<u8>,
}

#[derive(Deserialize)]
struct Instant(#[serde(with = "crate::task::time")] SystemTime);

/// A hash as text.
pub(super) fn hash<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:016x}"))
}

/// An event, or the kind of it that only a later version knows.
pub(crate) enum Told {
    Event(Event),
    #[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only a client goes on behind it"))]
    Unknown {
        seq: u64,
        epoch: u64,
        kind: String,
    },
}

impl<'de> Deserialize<'de> for Told {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let f = Fields::deserialize(deserializer)?;
        let missing = D::Error::missing_field;
        let kind = match &*f.kind {
            "started" => EventKind::Started { worker: f.worker.ok_or_else(|| missing("worker"))? },
            "yield" => EventKind::Yield {
                index: f.index.ok_or_else(|| missing("index"))?,
                hash: {
                    let text = f.hash.ok_or_else(|| missing("hash"))?;
                    u64::from_str_radix(&text, 16).map_err(|e| D::Error::custom(format!("hash {text:?}: {e}")))?
                },
                // A value may be `null`.
                value: f.value.unwrap_or_else(Json::null),
            },
            "event" => EventKind::Event {
                index: f.index.ok_or_else(|| missing("index"))?,
                name: f.name.ok_or_else(|| missing("name"))?,
                data: f.data.unwrap_or_else(Json::null),
            },
            "log" => EventKind::Log {
                index: f.index.ok_or_else(|| missing("index"))?,
                level: f.level.ok_or_else(|| missing("level"))?,
                target: f.target.ok_or_else(|| missing("target"))?,
                message: f.message.ok_or_else(|| missing("message"))?,
                fields: f.fields.unwrap_or_else(Json::nothing),
            },
            "rewind" => EventKind::Rewind { to: f.to.ok_or_else(|| missing("to"))? },
            "retry" => EventKind::Retry {
                error: f.error.ok_or_else(|| missing("error"))?,
                at: f.due_at.ok_or_else(|| missing("due_at"))?.0,
            },
            "completed" => EventKind::Completed { final_value: f.final_value },
            "failed" => EventKind::Failed { error: f.error.ok_or_else(|| missing("error"))? },
            "cancelled" => EventKind::Cancelled { reason: f.reason.ok_or_else(|| missing("reason"))? },
            "other" => EventKind::Other {
                code: f.code.ok_or_else(|| missing("code"))?,
                index: f.index.ok_or_else(|| missing("index"))?,
                data: f.data.unwrap_or_else(Json::null),
            },
            _ => return Ok(Told::Unknown { seq: f.seq, epoch: f.epoch, kind: f.kind }),
        };
        Ok(Told::Event(Event { seq: f.seq, epoch: f.epoch, attempt: f.attempt, at: f.at, kind }))
    }
}

/// One of a kind that this version does not know is an error.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Told::deserialize(deserializer)? {
            Told::Event(event) => Ok(event),
            Told::Unknown { kind, .. } => Err(D::Error::custom(format!("there is no kind of event `{kind}` here"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::task::FailureKind;

    #[test]
    fn what_was_written_is_read_back() {
        let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let error = TaskFailure::new(FailureKind::Panic, "\"bö\"\n").at(3).in_attempt(2);
        let json = |text: &str| Json::parse(text).unwrap();
        let kinds = [
            EventKind::Started { worker: "w-1".to_owned() },
            EventKind::Yield { index: 3, hash: u64::MAX, value: json(r#"{"a" : [1.50, "ü"]}"#) },
            EventKind::Yield { index: 0, hash: 0, value: Json::null() },
            EventKind::Event { index: 1, name: "start".to_owned(), data: Json::null() },
            EventKind::Log {
                index: 1,
                level: "info".to_owned(),
                target: "t".to_owned(),
                message: "m".to_owned(),
                fields: json(r#"{"n":1}"#),
            },
            EventKind::Rewind { to: 7 },
            EventKind::Retry { error: error.clone(), at: at + Duration::from_secs(5) },
            EventKind::Completed { final_value: None },
            EventKind::Completed { final_value: Some(json("[1]")) },
            EventKind::Failed { error },
            EventKind::Cancelled { reason: String::new() },
            EventKind::Other { code: 200, index: 2, data: json("[1]") },
        ];
        for kind in kinds {
            let event = Event { seq: 9, epoch: 4, attempt: 2, at, kind };
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(value["at"], "2023-11-14T22:13:20.123Z", "{text}");
        }
    }

    #[test]
    fn what_is_not_known_is_an_error() {
        let text = r#"{"seq":1,"epoch":1,"attempt":1,"at":"2023-11-14T22:13:20Z","kind":"moved","to":"x"}"#;
        assert!(serde_json::from_str::<Event>(text).is_err());
        let text = text.replace("\"x\"", "3");
        let error = serde_json::from_str::<Event>(&text).unwrap_err().to_string();
        assert!(error.contains("no kind of event `moved`"), "{error}");
        assert!(matches!(serde_json::from_str(&text), Ok(Told::Unknown { seq: 1, .. })));
        let error = serde_json::from_str::<Event>(&text.replace("moved", "yield")).unwrap_err().to_string();
        assert!(error.contains("missing field `index`"), "{error}");
    }
}
