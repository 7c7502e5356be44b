//! Who may do what: bearer [`Tokens`] with scopes, and tickets that let a browser watch one task.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use crate::error::{Error, Result};
use crate::task::TaskId;
use crate::task::time::to_ms;

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// To add tasks, and to run ended ones again.
    Add,
    /// To see tasks, their arguments and their logs.
    Read,
    /// To cancel tasks.
    Cancel,
    /// All of that, and whatever there is besides.
    Admin,
}

impl Scope {
    const ALL: [(&'static str, Scope); 4] =
        [("add", Scope::Add), ("read", Scope::Read), ("cancel", Scope::Cancel), ("admin", Scope::Admin)];
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Scope::ALL.iter().find(|(_, scope)| scope == self).map_or("", |(word, _)| word))
    }
}

impl FromStr for Scope {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let found = Scope::ALL.iter().find(|(word, _)| *word == text).map(|(_, scope)| *scope);
        found.ok_or_else(|| Error::invalid(format!("{text:?} is no scope: there are add, read, cancel and admin")))
    }
}

/// Who may use the server: bearer tokens, each with its [`Scope`]s. Kept as hashes.
#[derive(Clone, Default)]
pub struct Tokens {
    known: Vec<Token>,
}

#[derive(Clone)]
struct Token {
    hash: [u8; 32],
    scopes: Vec<Scope>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("known", &self.known.len()).finish()
    }
}

/// Shorter tokens could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// A token that nobody can guess: 64 hexadecimal digits.
pub(super) fn new_token() -> Result<String> {
    let mut bytes = [0; 32];
    let none = |e| Error::new(crate::ErrorKind::Unavailable, format!("the system gives no random bytes: {e}"));
    getrandom::fill(&mut bytes).map_err(none)?;
    Ok(hex(&bytes))
}

/// What is not a comment.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).enumerate();
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// The first token of a file of them.
pub(super) fn first(text: &str) -> Option<&str> {
    lines(text).next()?.1.split_whitespace().next()
}

impl Tokens {
    /// None yet: nobody may do anything but ask whether the server is there.
    pub fn none() -> Self {
        Tokens::default()
    }

    /// One more, which may do what its scopes allow.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) for one of fewer than 16 bytes, or with characters that a header can't
    /// have; the token is not in the message.
    pub fn with(mut self, token: &str, scopes: impl IntoIterator<Item = Scope>) -> Result<Self> {
        if token.len() < TOKEN_BYTES_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            let rule = format!("a token has at least {TOKEN_BYTES_MIN} bytes, all of them visible ASCII");
            return Err(Error::invalid(format!("{rule}; this one has {}", token.len())));
        }
        self.known.push(Token { hash: Sha256::digest(token).into(), scopes: scopes.into_iter().collect() });
        Ok(self)
    }

    /// Reads lines of `TOKEN` or `TOKEN SCOPE,SCOPE…`: one without scopes may do everything. What follows a `#` at the
    /// start of a line is a comment.
    ///
    /// # Errors
    /// As of [`with`](Self::with), with the number of the line; [`Invalid`](crate::ErrorKind::Invalid) for a text without
    /// any token, which would let nobody in.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tokens = Tokens::none();
        for (number, line) in lines(text) {
            let (token, scopes) = line.split_once(char::is_whitespace).unwrap_or((line, "admin"));
            let scopes: Result<Vec<Scope>> = scopes.split(',').map(|scope| scope.trim().parse()).collect();
            let added = scopes.and_then(|scopes| tokens.with(token, scopes));
            tokens = added.map_err(|e| Error::invalid(format!("line {} of the tokens: {e}", number + 1)))?;
        }
        if tokens.known.is_empty() {
            return Err(Error::invalid(
                "there are no tokens: write one a line, or take `Tokens::none()` to let nobody in",
            ));
        }
        Ok(tokens)
    }

    /// What a token allows; nothing if it is not known. Takes as long for every token.
    pub(super) fn scopes(&self, token: &str) -> Option<&[Scope]> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = None;
        for known in &self.known {
            if known.hash.ct_eq(&hash).into() {
                found = Some(&known.scopes[..]);
            }
        }
        found
    }

    /// The key of tickets: another one as soon as the tokens are others.
    fn key(&self) -> Option<Hmac<Sha256>> {
        if self.known.is_empty() {
            return None;
        }
        let mut all = Sha256::new();
        all.update(b"qtasks ticket\0");
        self.known.iter().for_each(|token| all.update(token.hash));
        Some(Hmac::new_from_slice(&all.finalize()).expect("keys of any length"))
    }

    /// A ticket to watch one task until a time. Nobody can make one without the tokens.
    pub(super) fn ticket(&self, id: TaskId, until: SystemTime) -> Option<String> {
        self.signed(id, to_ms(until))
    }

    /// Whether a ticket is for this task, and still good. Only the spelling that was issued is accepted: a number can be
    /// written in other ways, and whoever keeps a list of tickets must not be got round by one of them.
    pub(super) fn admits(&self, ticket: &str, id: TaskId, now: SystemTime) -> bool {
        let Some((until, _)) = ticket.split_once('.') else { return false };
        let Ok(until) = u64::from_str_radix(until, 16) else { return false };
        let Some(expected) = self.signed(id, until) else { return false };
        let same: Choice = expected.as_bytes().ct_eq(ticket.as_bytes());
        bool::from(same) && to_ms(now) < until
    }

    /// The one spelling of a ticket for a task until a time, in milliseconds.
    fn signed(&self, id: TaskId, until: u64) -> Option<String> {
        let mut mac = self.key()?;
        mac.update(&payload(id, until));
        Some(format!("{until:x}.{}", hex(&mac.finalize().into_bytes())))
    }
}

fn payload(id: TaskId, until: u64) -> Vec<u8> {
    let mut payload = id.as_bytes().to_vec();
    payload.extend_from_slice(&until.to_be_bytes());
    payload
}

/// A ticket is good for at most so long.
pub(super) const TICKET_MAX: Duration = Duration::from_secs(24 * 3600);

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_for_one_task_for_a_while_and_from_these_tokens() {
        let tokens = Tokens::parse("# ours\n0123456789abcdef read\n\nfedcba9876543210").unwrap();
        let (id, now) = (TaskId::new(), SystemTime::now());
        let ticket = tokens.ticket(id, now + Duration::from_secs(60)).unwrap();
        assert!(tokens.admits(&ticket, id, now));
        assert!(!tokens.admits(&ticket, TaskId::new(), now), "another task");
        assert!(!tokens.admits(&ticket, id, now + Duration::from_secs(61)), "too late");
        let later = format!("f{ticket}");
        assert!(!tokens.admits(&later, id, now), "its time was changed");
        let (until, signature) = ticket.split_once('.').unwrap();
        for other in [
            format!("+{ticket}"),
            format!("0{ticket}"),
            format!("{}.{signature}", until.to_uppercase()),
            format!("{until}.{}", signature.to_uppercase()),
            format!("{ticket}="),
            format!("{ticket}."),
            format!("{ticket} "),
            format!(" {ticket}"),
            format!("{until}..{signature}"),
            format!("{until}.{}", &signature[..62]),
        ] {
            // A time without letters is the same in capitals.
            assert!(other == ticket || !tokens.admits(&other, id, now), "another spelling: {other:?}");
        }
        let others = Tokens::parse("0123456789abcdef read").unwrap();
        assert!(!others.admits(&ticket, id, now), "of other tokens");
        assert!(Tokens::none().ticket(id, now).is_none());
    }

    #[test]
    fn tokens_are_read_with_their_scopes() {
        let tokens = Tokens::parse("0123456789abcdef read, add\n fedcba9876543210").unwrap();
        assert_eq!(tokens.scopes("0123456789abcdef").unwrap(), [Scope::Read, Scope::Add]);
        assert_eq!(tokens.scopes("fedcba9876543210").unwrap(), [Scope::Admin]);
        assert!(tokens.scopes("0123456789abcdeg").is_none());
        for text in ["", " \n\t\n", "# only a comment\n"] {
            assert!(Tokens::parse(text).unwrap_err().to_string().starts_with("there are no tokens: "), "{text:?}");
        }
        for (text, why) in [
            ("short", "line 1 of the tokens: a token has at least 16 bytes, all of them visible ASCII; this one has 5"),
            (
                "\n0123456789abcdef write",
                "line 2 of the tokens: \"write\" is no scope: there are add, read, cancel and admin",
            ),
        ] {
            assert_eq!(Tokens::parse(text).unwrap_err().to_string(), why);
        }
    }
}
