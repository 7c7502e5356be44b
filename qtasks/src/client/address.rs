//! [`Address`]: where a server is: a URL, or a Unix socket.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use super::DEFAULT_URL;
use crate::error::{Error, Result};

/// However it was written, an address is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    /// What requests begin with; over a socket a name that stands for it.
    pub(super) url: Url,
    pub(super) socket: Option<PathBuf>,
    /// As users know it.
    pub(super) text: String,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &dyn fmt::Display| {
            Error::invalid(format!("`{text}` is not the address of a server such as `{DEFAULT_URL}`: {why}"))
        };
        let socket = text.strip_prefix("unix:").map(PathBuf::from);
        if socket.is_some() && cfg!(not(unix)) {
            return Err(wrong(&"there are no Unix sockets here"));
        }
        let mut url = Url::parse(if socket.is_some() { "http://localhost" } else { text }).map_err(|e| wrong(&e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(&"a client speaks `http` and `https`, or `unix:` and a path"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong(&"it has a query or a fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            // It would stand in every error.
            return Err(Error::invalid("the address of a server has no password in it: give a client its `.token(…)`"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        let text = match &socket {
            Some(_) => text.to_owned(),
            None => url.as_str().trim_end_matches('/').to_owned(),
        };
        Ok(Address { url, socket, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_however_it_is_written() {
        let text = |text| Address::parse(text).map(|address| address.text);
        for same in ["http://host:80", "http://HOST/", "http://host//"] {
            assert_eq!(text(same).unwrap(), "http://host", "{same}");
        }
        assert_eq!(text("https://host:7717/a/b/").unwrap(), "https://host:7717/a/b");
        for bad in ["", "host", "127.0.0.1:7717", "ftp://host", "http://", "http://host?x=1", "http://host#x"] {
            let error = text(bad).unwrap_err();
            assert!(error.to_string().contains(DEFAULT_URL), "{error}");
        }
        let error = text("http://user:secret@host").unwrap_err().to_string();
        assert!(error.contains(".token(…)") && !error.contains("secret"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn an_address_may_be_a_socket() {
        let address = Address::parse("unix:/run/q.sock").unwrap();
        assert_eq!((address.socket, address.text), (Some("/run/q.sock".into()), "unix:/run/q.sock".to_owned()));
    }
}
