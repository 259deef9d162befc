//! The client of a running node's control API, and how it finds the node.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Serialize, de::DeserializeOwned};
use ureq::{
    Agent,
    http::{Response, StatusCode},
    typestate::WithBody,
};

use super::args::TargetArgs;
use crate::{
    api::ErrorView,
    home::{RunFile, default_data_dir},
};

/// How long an answer may take: the slowest call waits for a connection to a peer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer read: the address book has at most some megabytes.
const ANSWER_LIMIT: u64 = 64 << 20;

/// A node's control API.
pub(super) struct Client {
    agent: Agent,
    api: SocketAddr,
    home: PathBuf,
    token: Option<String>,
}

impl Client {
    /// Finds the node by `--api`, or by the `run.json` in the data directory. The token is read from the data directory
    /// of that very node only, so that it is never told to another.
    pub(super) fn find(target: &TargetArgs) -> Result<Self> {
        let home = target.home.data_dir.clone().map_or_else(default_data_dir, Ok)?;
        let running = RunFile::read(&home)?;
        let api = match (target.api, &running) {
            (Some(api), _) => api,
            (None, Some(running)) => running.api_addr.with_context(|| {
                format!("the node in {} runs without a control API (api = \"off\")", home.display())
            })?,
            (None, None) => bail!(
                "no node is running in {}: start one with `bt2c-node run`, or say where it is with --data-dir or --api",
                home.display()
            ),
        };
        let is_own =
            running.is_some_and(|running| running.api_addr == Some(api)) || target.home.data_dir.is_some();
        let token = is_own.then(|| read_token(&home)).flatten();
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("bt2c-node/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().new_agent(), api, home, token })
    }

    /// The data directory that the node was looked for in.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.agent.get(self.url(path)).call();
        self.read(answer)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let answer = self.authorise(self.agent.post(self.url(path)))?.send_json(body);
        self.read(answer)
    }

    /// A `POST` that takes as long as it takes, and is answered by lines of JSON as it goes.
    pub(super) fn post_lines<T: DeserializeOwned>(&self, path: &str, mut each: impl FnMut(T)) -> Result<()> {
        let request = self.authorise(self.agent.post(self.url(path)))?;
        let answer = request.config().timeout_global(None).build().send_empty();
        let lines = BufReader::new(self.check(answer)?.into_body().into_reader()).lines();
        for line in lines {
            let line = line.with_context(|| format!("the node at {} went away", self.api))?;
            each(
                serde_json::from_str(&line)
                    .with_context(|| format!("{} answers strangely: {line}", self.api))?,
            );
        }
        Ok(())
    }

    /// A `POST` whose answer is empty.
    pub(super) fn post_empty(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let answer = self.authorise(self.agent.post(self.url(path)))?.send_json(body);
        self.check(answer).map(drop)
    }

    pub(super) fn delete(&self, path: &str) -> Result<()> {
        let request = self.authorise(self.agent.delete(self.url(path)).force_send_body())?;
        self.check(request.send_empty()).map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api)
    }

    fn authorise(&self, request: ureq::RequestBuilder<WithBody>) -> Result<ureq::RequestBuilder<WithBody>> {
        let token = self.token.as_ref().ok_or_else(|| {
            anyhow!(
                "changes need the token of the node at {}: name its data directory with --data-dir, as the user that runs it",
                self.api
            )
        })?;
        Ok(request.header("Authorization", format!("Bearer {token}")))
    }

    fn read<T: DeserializeOwned>(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<T> {
        let mut answer = self.check(answer)?;
        answer.body_mut().with_config().limit(ANSWER_LIMIT).read_json().with_context(|| {
            format!("the answer of {} is no control API's: is another program there?", self.api)
        })
    }

    /// Turns refusals into errors with the node's own words.
    fn check(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Response<ureq::Body>> {
        let mut answer = answer.map_err(|error| {
            anyhow!(
                "no node answers at {}: {error}; is it running? Say where it is with --data-dir or --api",
                self.api
            )
        })?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        match answer.body_mut().read_json::<ErrorView>() {
            // A peer, not the node, is why it did not work.
            Ok(view) if status == StatusCode::BAD_GATEWAY => bail!("{}", view.error),
            Ok(view) => bail!("the node refused: {}", view.error),
            Err(_) => bail!("{} answered {status}: is another program there?", self.api),
        }
    }
}

fn read_token(home: &Path) -> Option<String> {
    let text = fs::read_to_string(home.join(crate::home::TOKEN_FILE)).ok()?;
    Some(text.trim().to_owned())
}
