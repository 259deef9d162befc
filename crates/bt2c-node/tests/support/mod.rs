//! The binary as a test sees it: commands that end, and nodes that run.

#![allow(clippy::allow_attributes, dead_code, reason = "each test binary uses its own part of this")]

use std::{
    cell::RefCell,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use serde_json::Value;

/// Longest wait for anything that a test waits for; only a failing test waits as long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// Asserts success and gives what was printed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self.stdout
    }

    /// Asserts success and reads what was printed as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("JSON was asked for")
    }

    /// Asserts a failure with one line on standard error, and gives the line.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, 1, "stdout: {} stderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "not one line: {}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}

/// The binary, away from the user's own configuration.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bt2c-node"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("BT2C_")) {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn bt2c(args: &[&str]) -> Outcome {
    finish(binary().args(args))
}

/// Runs a command on a data directory to its end.
pub(crate) fn bt2c_in(home: &Path, args: &[&str]) -> Outcome {
    finish(binary().args(args).arg("--data-dir").arg(home))
}

pub(crate) fn finish(command: &mut Command) -> Outcome {
    let output = command.output().expect("the binary starts");
    Outcome {
        code: output.status.code().expect("it ended by itself"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A node that runs; killed when it is dropped.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: Receiver<String>,
    /// What it logged before it listened.
    pub(crate) before: Vec<String>,
    /// Every line taken from `lines` so far.
    seen: RefCell<Vec<String>>,
    pub(crate) home: PathBuf,
}

impl Running {
    /// Starts a devnet node on free loopback ports and returns once it says that it listens.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Self {
        Self::spawn(Self::command(home).args(args), home)
    }

    /// What starts such a node.
    pub(crate) fn command(home: &Path) -> Command {
        let mut command = binary();
        command.args(["run", "--network", "devnet", "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(home);
        command
    }

    pub(crate) fn spawn(command: &mut Command, home: &Path) -> Self {
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // The thread ends with the child, whose end closes the pipe.
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut running =
            Self { child, lines, before: Vec::new(), seen: RefCell::default(), home: home.to_owned() };
        running.before = running.until("listening");
        running
    }

    /// Waits for a log line with this text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.until(text).pop().expect("the line itself")
    }

    /// The log up to the next line with this text.
    #[track_caller]
    fn until(&self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    self.seen.borrow_mut().push(line.clone());
                    lines.push(line);
                    if lines.last().is_some_and(|line| line.contains(text)) {
                        return lines;
                    }
                }
                Err(error) => panic!("no line with {text:?} ({error}); seen: {:#?}", self.seen.borrow()),
            }
        }
    }

    /// What it has logged since somebody last looked.
    pub(crate) fn logged(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// `run.json`.
    pub(crate) fn run_file(&self) -> Value {
        let bytes = std::fs::read(self.home.join("run.json")).expect("run.json stands while the node runs");
        serde_json::from_slice(&bytes).expect("run.json is JSON")
    }

    pub(crate) fn p2p_addr(&self) -> String {
        self.run_file()["p2p_addr"].as_str().expect("it listens").to_owned()
    }

    pub(crate) fn api_addr(&self) -> String {
        self.run_file()["api_addr"].as_str().expect("it has an API").to_owned()
    }

    /// `GET` of the control API.
    pub(crate) fn get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.api_addr());
        ureq::get(url).call().expect("the API answers").body_mut().read_json().expect("JSON")
    }

    /// Asks the control API again and again, at each log line and often enough between, until the answer is right.
    #[track_caller]
    pub(crate) fn wait_until(&self, path: &str, is_right: impl Fn(&Value) -> bool) {
        const TICK: Duration = Duration::from_millis(50);
        let mut answer = Value::Null;
        for _ in 0..DEADLINE.as_millis() / TICK.as_millis() {
            answer = self.get(path);
            if is_right(&answer) {
                return;
            }
            self.seen.borrow_mut().extend(self.lines.recv_timeout(TICK));
        }
        panic!("{path} stays {answer}");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.end()
    }

    /// Ends it as [`terminate`](Self::terminate) does, and gives everything that it ever logged.
    pub(crate) fn log(mut self) -> String {
        assert_eq!(self.end().code(), Some(0));
        // The pipe is closed, so the last line is in.
        self.seen.borrow_mut().extend(self.lines.iter());
        self.seen.borrow().join("\n")
    }

    fn end(&mut self) -> ExitStatus {
        let kill = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(kill.expect("kill runs").success());
        self.child.wait().expect("it ends")
    }

    /// Ends it without a chance to clean up.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
