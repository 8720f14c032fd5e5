//! Other processes: this test binary, started again to play a part and killed by its number.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use posthaste_bus::{Bus, BusOptions};
use posthaste_core::{Broker, Outcome, Subscription};

use crate::support::*;

const PART: &str = "POSTHASTE_BUS_TEST_PART";
const URL: &str = "POSTHASTE_BUS_TEST_URL";

/// A process that plays a part until its input ends or it is killed.
pub(crate) struct Process {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a process for a part and waits until it is ready.
    pub(crate) fn start(part: &str, url: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", "processes::a_process_plays_its_part", "--nocapture"])
            .env(PART, part)
            .env(URL, url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("an output"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let Some(said) = line.split_once("> ").map(|(_, said)| said.to_owned()) else {
                    continue;
                };
                if sender.send(said).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        let process = Self { child, input, lines };
        assert_eq!(process.line(), "ready");
        process
    }

    /// The next thing it says.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("the process says something")
    }

    /// Kills it and returns what it had said by then.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        self.lines.iter().collect()
    }

    /// Lets it end in good order.
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().expect("ended").success());
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "> {line}").expect("said");
    output.flush().expect("said");
}

/// Without a part it plays one against itself: what is said arrives, and the end of the input is
/// the end of the process.
#[test]
fn a_process_plays_its_part() {
    let Ok(part) = std::env::var(PART) else {
        let folder = Folder::new();
        let process = Process::start("own", &folder.url());
        assert!(folder.file("bus.db").exists());
        process.end();
        assert!(!folder.file("bus.db.sock").exists());
        return;
    };
    let url = std::env::var(URL).expect("a URL");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let bus = Bus::open(&url, BusOptions::default()).expect("opened");
        bus.status().await.expect("reached");
        match part.as_str() {
            "own" => say("ready"),
            "publish" => {
                say("ready");
                let bus = bus.clone();
                tokio::spawn(async move { publish_for_ever(&bus).await });
            }
            "hold" => {
                let subscription = Subscription::new("orders", "shipping");
                let mut reader = bus.subscriber(&subscription).await.expect("a subscriber");
                say("ready");
                let held = one(&mut *reader).await;
                say(&format!("{} {}", text(&held), held.attempt));
                std::mem::forget(held);
                std::mem::forget(reader);
            }
            other => panic!("no part {other}"),
        }
        tokio::task::spawn_blocking(|| std::io::stdin().lines().count()).await.expect("read");
        bus.close().await;
    });
    // The publisher of the runtime, if there is one, need not end.
    runtime.shutdown_background();
}

/// Publishes numbers under one key and says which ones were accepted; a message that was not is
/// published again, as a relay would.
async fn publish_for_ever(bus: &Bus) {
    let publisher = bus.publisher();
    for number in 0_u64.. {
        let text = format!("{}-{number}", std::process::id());
        let batch = [message("orders", Some(&std::process::id().to_string()), &text)];
        loop {
            match publisher.publish(&batch).await {
                Ok(outcomes) if matches!(outcomes[..], [Outcome::Accepted(_)]) => break,
                _ => tokio::task::yield_now().await,
            }
        }
        say(&text);
    }
}
