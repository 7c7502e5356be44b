//! Escapes for untrusted text on a terminal: characters that control it, and characters that are invisible.
//!
//! Invariant: [`escaped`] leaves nothing that [`is_hidden`] finds, and leaves alone what it has escaped before.

#[cfg(feature = "cli")]
use std::borrow::Cow;

/// Returns the first character of a text that controls a terminal or is invisible.
pub(crate) fn first_hidden(text: &str) -> Option<char> {
    // The fast path: most text is printable ASCII.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return None;
    }
    hidden(text).next().map(|(_, c)| c)
}

/// Returns the characters of a text that control a terminal or are invisible, with their positions.
fn hidden(text: &str) -> impl Iterator<Item = (usize, char)> {
    let mut before = None;
    text.char_indices().filter(move |(at, c)| {
        let after = || text[at + c.len_utf8()..].chars().next();
        let is_hidden = is_hidden(before, *c, after);
        before = Some(*c);
        is_hidden
    })
}

/// Whether a character between two others controls a terminal, or is invisible.
///
/// A joiner changes the two characters beside it (emoji, Persian, Hindi), and a variation selector the one before it.
/// Beside ASCII neither has an effect, except in a keycap emoji, which begins with a digit.
fn is_hidden(before: Option<char>, c: char, after: impl FnOnce() -> Option<char>) -> bool {
    let takes_effect = |c: char| !c.is_ascii() && !controls(c);
    if is_joiner(c) {
        let joins = |c: char| takes_effect(c) && !is_joiner(c);
        return !(before.is_some_and(joins) && after().is_some_and(|c| joins(c) && !is_selector(c)));
    }
    if is_selector(c) {
        let selects = |c: char| takes_effect(c) && !is_joiner(c) && !is_selector(c);
        return !(before.is_some_and(selects) || (before.is_some() && after() == Some('\u{20e3}')));
    }
    controls(c)
}

/// Zero-width joiner and non-joiner.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Variation selectors.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Control characters (C0, DEL, C1), line and paragraph separators, bidirectional controls, and all other characters
/// that are invisible wherever they stand.
fn controls(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e00ff}' | '\u{e01f0}'..='\u{e0fff}'
    )
}

/// Escapes what controls a terminal or is invisible, as in JSON strings: `\n`, `\u001b`. The result is one line.
#[cfg(feature = "cli")]
pub(crate) fn escaped(text: &str) -> Cow<'_, str> {
    replaced(text, |c, out| match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c => escape(c, out),
    })
}

/// Escapes text that is JSON, as [`escaped`] does. The result is the same value, on one line.
#[cfg(feature = "cli")]
pub(crate) fn escaped_json(json: &str) -> Cow<'_, str> {
    replaced(json, |c, out| match c {
        // Valid JSON has raw line breaks and tabs only between tokens.
        '\n' | '\r' | '\t' => out.push(' '),
        c => escape(c, out),
    })
}

#[cfg(feature = "cli")]
fn replaced(text: &str, replace: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if first_hidden(text).is_none() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut done) = (String::with_capacity(text.len() + 16), 0);
    for (at, c) in hidden(text) {
        out.push_str(&text[done..at]);
        replace(c, &mut out);
        done = at + c.len_utf8();
    }
    out.push_str(&text[done..]);
    Cow::Owned(out)
}

#[cfg(feature = "cli")]
fn escape(c: char, out: &mut String) {
    use std::fmt::Write as _;
    for unit in c.encode_utf16(&mut [0; 2]) {
        let _ = write!(out, "\\u{unit:04x}");
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_or_is_invisible_is_escaped() {
        for (text, shown) in [
            ("plain, and ünïcödé: 漢字 🎉", "plain, and ünïcödé: 漢字 🎉"),
            ("a\x1b]0;title\x07\x08\x7f", "a\\u001b]0;title\\u0007\\u0008\\u007f"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\u0000"),
            ("\u{80}\u{85}\u{9b}2J\u{9d}\u{9f}", "\\u0080\\u0085\\u009b2J\\u009d\\u009f"),
            ("\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}", "\\u061c\\u200e\\u200f\\u202a\\u202e"),
            ("\u{2066}\u{2069}\u{2028}\u{2029}", "\\u2066\\u2069\\u2028\\u2029"),
            ("im\u{200b}port\u{2060}\u{feff}\u{ad}", "im\\u200bport\\u2060\\ufeff\\u00ad"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("\\u001b is text", "\\u001b is text"),
        ] {
            assert_eq!(escaped(text), shown);
            assert_eq!(escaped(shown), shown, "nothing is escaped twice");
            assert_eq!(first_hidden(text).is_some(), text != shown, "{text:?}");
        }
    }

    /// Beside ASCII they make a second `import` that looks like the first.
    #[test]
    fn joiners_and_selectors_stay_where_they_have_an_effect() {
        for text in ["👩\u{200d}👩", "❤\u{fe0f}\u{200d}🔥", "می\u{200c}خواهم", "1\u{fe0f}\u{20e3}", "葛\u{e0100}"]
        {
            assert_eq!(escaped(text), text);
        }
        for text in [
            "im\u{200d}port",
            "é\u{200d}",
            "\u{200c}é",
            "é\u{200d}\u{200d}é",
            "a\u{fe0f}",
            "é\u{fe0f}\u{fe0f}",
            "\u{fe0f}",
        ] {
            assert_ne!(escaped(text), text, "{text:?}");
        }
    }

    #[test]
    fn escaped_json_is_the_same_value_on_one_line() {
        let json = "{\"a\":\r\n\t\"\x7f\u{9b}\u{202e}\u{e0041}\\u001b\\\\\"}";
        let shown = escaped_json(json);
        assert_eq!(first_hidden(&shown), None, "{shown}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&shown), value(json));
    }
}
