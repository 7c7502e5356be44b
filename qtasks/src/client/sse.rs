//! [`Parser`]: server-sent events from bytes, as the standard reads them: pure.
//!
//! Invariant: what is not closed by an empty line is no event, wherever the bytes are cut.

/// A server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Frame {
    /// `None` where it has no name.
    pub(super) name: Option<String>,
    /// The last id that was sent.
    pub(super) id: String,
    /// The lines of its data, joined.
    pub(super) data: String,
}

/// Puts frames together.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The line that has not come to its end.
    line: Vec<u8>,
    /// The last byte was `\r`: a `\n` that follows belongs to it.
    after_cr: bool,
    begun: bool,
    name: Option<String>,
    id: String,
    data: Option<String>,
}

impl Parser {
    /// Takes bytes, and adds the frames that they complete.
    pub(super) fn feed(&mut self, mut bytes: &[u8], frames: &mut Vec<Frame>) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) else {
                self.line.extend_from_slice(bytes);
                return;
            };
            self.after_cr = bytes[end] == b'\r';
            if self.line.is_empty() {
                self.take(&bytes[..end], frames);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.take(&line, frames);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn take(&mut self, line: &[u8], frames: &mut Vec<Frame>) {
        let line = if std::mem::replace(&mut self.begun, true) {
            line
        } else {
            line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line)
        };
        if line.is_empty() {
            let name = self.name.take();
            if let Some(data) = self.data.take() {
                frames.push(Frame { name, id: self.id.clone(), data });
            }
            return;
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = (!value.is_empty()).then(|| value.to_owned()),
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments, `retry`, and what a later version may add.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parts: &[&[u8]]) -> Vec<Frame> {
        let (mut parser, mut frames) = (Parser::default(), Vec::new());
        parts.iter().for_each(|part| parser.feed(part, &mut frames));
        frames
    }

    fn frame(name: Option<&str>, id: &str, data: &str) -> Frame {
        Frame { name: name.map(str::to_owned), id: id.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn frames_are_read_as_the_standard_says() {
        let text = "\u{feff}: hello\nretry: 2000\n\nevent: started\nid: 1-1\ndata: {\"a\":\ndata:  1}\n\n\
                    data: \"ü\"\nid: 2-1\n\nevent: lost\nid: 3-1\n\ndata\n\nid: 4\0\nother: x\ndata:x:y\n\nid: 9-1\ndata: cut";
        let expected = [
            frame(Some("started"), "1-1", "{\"a\":\n 1}"),
            frame(None, "2-1", "\"ü\""),
            frame(None, "3-1", ""),
            frame(None, "3-1", "x:y"),
        ];
        for ends in ["\n", "\r\n", "\r"] {
            assert_eq!(all(&[text.replace('\n', ends).as_bytes()]), expected, "{ends:?}");
        }
    }

    #[test]
    fn frames_may_be_cut_anywhere() {
        let text = "event: a\r\nid: 1-1\r\ndata: \"ä\"\r\n\r\ndata: 2\n\n\r\ndata: 3\r\r";
        let whole = all(&[text.as_bytes()]);
        assert_eq!(whole.len(), 3);
        for at in 0..=text.len() {
            let (left, right) = text.as_bytes().split_at(at);
            assert_eq!(all(&[left, right]), whole, "cut at {at}");
        }
        let single: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
        assert_eq!(all(&single), whole);
    }
}
