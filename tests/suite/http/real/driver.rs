//! [`Browser`]: headless Chromium, told what to do by WebDriver.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use super::*;

pub(super) struct Browser {
    driver: Child,
    port: u16,
    http: reqwest::Client,
    session: String,
    /// The browser's own process.
    process: Option<u64>,
}

impl Browser {
    pub(super) async fn start() -> Self {
        let mut command = Command::new("chromedriver");
        command.args(["--port=0"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let started = command.spawn();
        let mut driver = started.unwrap_or_else(|e| panic!("chromedriver: {e}; `./tests/run` installs it"));
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = tokio::time::timeout(soon(), lines.next_line()).await.expect("it begins").unwrap();
            let line = line.expect("it says its port");
            if let Some((_, port)) = line.split_once("successfully on port ") {
                break port.trim_end_matches('.').parse().unwrap();
            }
        };
        // Whatever it says later has to be read.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder().no_proxy().timeout(soon()).build().unwrap();
        let mut browser = Browser { driver, port, http, session: String::new(), process: None };
        let profile = format!("--user-data-dir={}", crate::scratch().display());
        // It asks nobody for anything but the page.
        let quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update"];
        let flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &profile];
        let args = [&flags[..], &quiet].concat();
        let options = json!({ "goog:chromeOptions": { "args": args } });
        let made = browser.tell("/session", &json!({ "capabilities": { "alwaysMatch": options } })).await;
        made["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser.process = made["capabilities"]["goog:processID"].as_u64();
        browser
    }

    async fn tell(&self, path: &str, what: &Value) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = self.http.post(url).body(what.to_string()).send().await.unwrap().text().await.unwrap();
        let mut answer: Value = serde_json::from_str(&answer).unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{path}: {value}; `./tests/run` installs chromium");
        value
    }

    pub(super) async fn open(&self, url: &str) {
        self.tell(&format!("/session/{}/url", self.session), &json!({ "url": url })).await;
    }

    /// What a script returns that runs in the page.
    pub(super) async fn run(&self, script: &str) -> Value {
        let path = format!("/session/{}/execute/sync", self.session);
        self.tell(&path, &json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true in the page.
    pub(super) async fn until(&self, is_so: &str) {
        let script = format!("return Boolean({is_so})");
        let wait = async {
            while self.run(&script).await != true {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(soon(), wait).await.is_err() {
            panic!("{is_so} does not come to be so: {}", self.run("return window.seen").await);
        }
    }
}

impl Drop for Browser {
    /// The driver ends the browser when it is asked to; where it can't be asked, the browser is ended by its number.
    fn drop(&mut self) {
        let ended = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let request = format!("DELETE /session/{} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", self.session);
            stream.write_all(request.as_bytes())?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            Ok(answer.ends_with(b"200"))
        };
        if !ended().is_ok_and(|ended| ended)
            && let Some(process) = self.process
        {
            let _ = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
        }
        let _ = self.driver.start_kill();
    }
}
