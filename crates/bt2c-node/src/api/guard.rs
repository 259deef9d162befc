//! Who may ask: the `Host` check that all calls pass, and the token that changes need.

use std::{
    fmt,
    hint::black_box,
    net::{IpAddr, SocketAddr},
};

use axum::{
    extract::{Request, State as Extract},
    http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{ApiError, BODY_LIMIT, State};

/// The secret that changes need: 64 hex digits, made anew at each start.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// A token of these random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(data_encoding::HEXLOWER.encode(&random).into())
    }

    /// Its text, to be shown to its owner alone.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether the two are equal; the time taken does not tell how far they are.
    fn matches(&self, offered: &str) -> bool {
        let (own, offered) = (self.0.as_bytes(), offered.as_bytes());
        own.len() == offered.len()
            && black_box(own.iter().zip(offered).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Refuses requests whose `Host` is a name that someone else may have pointed at this machine.
pub(super) async fn check_host(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if is_own_host(host, state.addr) => next.run(request).await,
        _ => ApiError::foreign_host().into_response(),
    }
}

/// Refuses a body that says of itself that it is too large, before any of it is read.
pub(super) async fn check_size(request: Request, next: Next) -> Response {
    let length: Option<usize> =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > BODY_LIMIT => ApiError::too_large().into_response(),
        _ => next.run(request).await,
    }
}

/// Refuses changes without the token.
pub(super) async fn check_token(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    let offered = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match offered.and_then(bearer) {
        Some(offered) if state.token.matches(offered.trim()) => next.run(request).await,
        _ => ApiError::unauthorised().into_response(),
    }
}

/// What follows the scheme, whose case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// `localhost`, a loopback address, or the address bound to. An address cannot be rebound, so one bound to all
/// interfaces takes any. The port is not looked at: a forwarded one may differ.
fn is_own_host(host: &str, bound: SocketAddr) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    literal.parse::<IpAddr>().is_ok_and(|ip| {
        ip.to_canonical().is_loopback()
            || ip.to_canonical() == bound.ip().to_canonical()
            || bound.ip().is_unspecified()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_hosts_are_loopback_names_and_the_bound_address() {
        let bound = "192.0.2.7:26660".parse().unwrap();
        for host in
            ["localhost", "LOCALHOST:26660", "127.0.0.1:1", "127.0.0.3", "[::1]:26660", "192.0.2.7:26660"]
        {
            assert!(is_own_host(host, bound), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:26660",
            "192.0.2.8",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_own_host(host, bound), "{host}");
        }
        assert!(is_own_host("192.0.2.8:1", "0.0.0.0:1".parse().unwrap()));
        assert!(!is_own_host("evil.example", "0.0.0.0:1".parse().unwrap()));
    }

    #[test]
    fn the_scheme_is_bearer_in_any_case() {
        for value in ["Bearer x", "bearer x", "BEARER x"] {
            assert_eq!(bearer(value), Some("x"));
        }
        assert!(bearer("Basic x").is_none() && bearer("Bearerx").is_none());
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::new([7; 32]);
        assert!(token.matches(token.secret()));
        assert!(!token.matches(&token.secret()[1..]));
        assert!(!token.matches(Token::new([8; 32]).secret()));
        assert!(!token.matches(""));
        assert!(!format!("{token:?}").contains(token.secret()));
    }
}
