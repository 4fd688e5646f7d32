//! Chromium on a host, without a window: opens a page and says what is in it.
//!
//! ```text
//!   test ── request\0 ──▶ FIFO ──▶ descriptor 3 ┐
//!   test ◀── answer\0 ─── FIFO ◀── descriptor 4 ┴ chromium --remote-debugging-pipe
//! ```
//!
//! It speaks the DevTools protocol over two pipes, so no port is needed in the host's network. Not a driver for any
//! browser. Called by tests. Invariant: an answer comes in [`PATIENCE`] or the test fails, and the browser ends with
//! the test.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::host::Host;
use crate::process::Process;
use crate::tool;

/// How long the browser may take to start, and to answer.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Starts it with both pipes in the places where it looks for them.
const SCRIPT: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
                      --autoplay-policy=no-user-gesture-required --window-size=1440,900 --user-data-dir=\"$2\" \
                      --remote-debugging-pipe about:blank 3<\"$0\" 4>\"$1\"";

/// A browser with one page.
#[derive(Debug)]
pub struct Browser {
    process: Process,
    requests: File,
    answers: Receiver<Value>,
    session: Option<String>,
    next: u64,
}

impl Browser {
    /// Opens a page.
    ///
    /// # Errors
    ///
    /// When there is no browser, or it does not answer.
    pub fn open(host: &Host, url: &str) -> anyhow::Result<Self> {
        let paths = ["requests", "answers", "profile"].map(|end| host.file(end));
        let [requests, answers, _] = &paths;
        for fifo in [requests, answers] {
            tool::run("mkfifo", &[text(fifo)?])?;
        }
        let words = [Path::new("-c"), Path::new(SCRIPT)];
        let words = words.into_iter().chain(paths.iter().map(PathBuf::as_path));
        let process = Process::start(host, Path::new("sh"), words)?;
        // Both wait for the other end, which the script opens in this order.
        let requests = File::options().write(true).open(requests)?;
        let reader = BufReader::new(File::open(answers)?);
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for answer in reader.split(0).map_while(Result::ok) {
                let parsed = serde_json::from_slice(&answer);
                if parsed.is_ok_and(|answer| sender.send(answer).is_err()) {
                    return;
                }
            }
        });
        let mut browser = Self {
            process,
            requests,
            answers,
            session: None,
            next: 0,
        };
        browser.show(url)?;
        Ok(browser)
    }

    fn show(&mut self, url: &str) -> anyhow::Result<()> {
        let targets = self.ask("Target.getTargets", &json!({}))?;
        let mut targets = targets["targetInfos"].as_array().into_iter().flatten();
        let page = targets.find(|target| target["type"] == "page");
        let page = page.context("the browser has no page")?["targetId"].clone();
        let attach = json!({"targetId": page, "flatten": true});
        let session = self.ask("Target.attachToTarget", &attach)?;
        self.session = session["sessionId"].as_str().map(str::to_owned);
        self.ask("Page.navigate", &json!({"url": url})).map(drop)
    }

    /// What an expression of JavaScript is in the page; what it promises is waited for.
    ///
    /// # Errors
    ///
    /// When it throws, or no answer comes.
    pub fn evaluate(&mut self, expression: &str) -> anyhow::Result<Value> {
        let wanted = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.ask("Runtime.evaluate", &wanted)?;
        anyhow::ensure!(
            answer.get("exceptionDetails").is_none(),
            "`{expression}`: {}",
            answer["exceptionDetails"]
        );
        Ok(answer["result"]["value"].take())
    }

    fn ask(&mut self, method: &str, parameters: &Value) -> anyhow::Result<Value> {
        self.next += 1;
        let mut request = json!({"id": self.next, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        let mut bytes = request.to_string().into_bytes();
        bytes.push(0);
        self.requests.write_all(&bytes)?;
        loop {
            let mut answer = self
                .answers
                .recv_timeout(PATIENCE)
                .with_context(|| format!("the browser does not answer {method}"))?;
            if answer["id"] == self.next {
                anyhow::ensure!(
                    answer.get("error").is_none(),
                    "{method}: {}",
                    answer["error"]
                );
                return Ok(answer["result"].take());
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not text", path.display()))
}
