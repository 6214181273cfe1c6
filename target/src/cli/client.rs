//! The commands' way to the admin API of the running target.
//!
//! Its one rule: whatever fails, the error names the address that was asked.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Method, Request};

use super::Failure;
use crate::config::token::Token;
use crate::status::ErrorBody;

/// Longer than any request may take: a status window, or a removal's grace.
const ANSWER_TIME: Duration = Duration::from_secs(120);
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Which target, and how to be let in.
#[derive(Args, Clone)]
pub struct ClientArgs {
    /// The admin API of the target
    #[arg(
        long,
        global = true,
        env = "RINGSAN_ADMIN",
        value_name = "URL",
        default_value = "http://127.0.0.1:9810"
    )]
    admin: String,
    /// Show the token in this file
    #[arg(long, global = true, env = "RINGSAN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// A client of one target.
pub struct Client {
    agent: Agent,
    base: String,
    token: Option<Token>,
}

impl ClientArgs {
    /// A client; nothing is sent yet.
    pub fn client(&self) -> Result<Client, Failure> {
        let base = self.admin.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        if !base.starts_with("http://") {
            return Err(Failure::Usage(format!(
                "--admin {}: the admin API speaks plain HTTP; write http://…",
                self.admin
            )));
        }
        let token = self.token_file.as_deref().map(Token::read).transpose();
        let token = token.map_err(|wrong| Failure::Error(wrong.to_string()))?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_global(Some(ANSWER_TIME))
            .proxy(None)
            .build();
        Ok(Client { agent: agent.into(), base, token })
    }
}

impl Client {
    /// The address that is asked.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET, its answer read as JSON.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.parsed(&self.send(Method::GET, path, None)?)
    }

    /// A request with a JSON body, its answer read as JSON.
    pub fn send_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_string(body).expect("requests have no value that JSON lacks");
        self.parsed(&self.send(method, path, Some(body))?)
    }

    /// A request without a body, its answer read as JSON.
    pub fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.parsed(&self.send(Method::POST, path, Some(String::new()))?)
    }

    /// DELETE.
    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        self.send(Method::DELETE, path, None).map(drop)
    }

    fn send(&self, method: Method, path: &str, body: Option<String>) -> Result<String, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", token.bearer());
        }
        let request = request.header("Content-Type", "application/json").body(body.unwrap_or_default());
        let request = request.map_err(|error| {
            Failure::Usage(format!("--admin {}: {error}; write a URL like http://127.0.0.1:9810", self.base))
        })?;
        let mut answer = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            Ok(text)
        } else {
            Err(self.refused(answer.status().as_u16(), &text))
        }
    }

    fn parsed<T: DeserializeOwned>(&self, text: &str) -> Result<T, Failure> {
        serde_json::from_str(text).map_err(|error| {
            let base = &self.base;
            Failure::Error(format!(
                "{base} does not answer as ringsan {} does: {error}; is it another program or version?",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        Failure::Error(match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                format!(
                    "no target answers at {base}; start one with `ringsan serve`, or name its address with --admin"
                )
            }
            error => format!(
                "{base} cannot be asked: {error}; check the address given by --admin or RINGSAN_ADMIN"
            ),
        })
    }

    fn refused(&self, status: u16, text: &str) -> Failure {
        let base = &self.base;
        Failure::Error(match serde_json::from_str::<ErrorBody>(text) {
            Ok(_) if status == 401 => {
                format!("{base} asks for its token; name the file with --token-file or RINGSAN_TOKEN_FILE")
            }
            Ok(body) if body.error.kind == "refused_unless_forced" => {
                return Failure::NeedsForce(body.error.message);
            }
            Ok(body) => body.error.message,
            Err(_) => format!("{base} answered with HTTP status {status}; is it a ringsan target?"),
        })
    }
}
