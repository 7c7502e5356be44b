//! Ids as people write them.

use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::store::List;
use crate::task::TaskId;

/// An id is looked for among so many of the newest tasks.
const NEWEST: usize = 1000;

/// Fewer digits would be of too many.
const DIGITS_MIN: usize = 4;

/// The id that is meant by a whole one, by the last digits of one, or by `@last`.
pub(super) async fn id(target: &Target, text: &str) -> Result<TaskId> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    if text == "@last" {
        let newest = target.list(List { limit: 1, ..List::default() }).await?.tasks.pop();
        let none = || Error::new(ErrorKind::NotFound, format!("there is no task in `{}` yet", target.url));
        return newest.map(|record| record.id).ok_or_else(none);
    }
    let digits = suffix(text)?;
    let newest = target.list(List { limit: NEWEST, ..List::default() }).await?.tasks;
    let ids = newest.into_iter().map(|record| record.id);
    let found: Vec<TaskId> = ids.filter(|id| id.as_uuid().simple().to_string().ends_with(&digits)).collect();
    match &found[..] {
        [id] => Ok(*id),
        [] => {
            let message = format!("none of the newest {NEWEST} tasks has an id that ends in `{text}`: give all of it");
            Err(Error::new(ErrorKind::NotFound, message))
        }
        [a, b, ..] => Err(Error::invalid(format!(
            "the ids of {} tasks end in `{text}`, {a} and {b} among them: give more of it",
            found.len()
        ))),
    }
}

/// The last digits of an id, without what is between them.
fn suffix(text: &str) -> Result<String> {
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() < DIGITS_MIN || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::invalid(format!(
            "`{text}` is no id: give all of it, at least its last {DIGITS_MIN} digits, or `@last`"
        )));
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_hexadecimal_and_not_too_short() {
        assert_eq!(suffix("9c41-E07b").unwrap(), "9c41e07b");
        for text in ["abc", "", "@first", "import", "9c41e07g"] {
            assert!(suffix(text).is_err(), "{text}");
        }
    }
}
