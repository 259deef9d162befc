//! Who may ask: the `Host` check that all calls pass, and the token that changes need.

use std::{
    fmt,
    hint::black_box,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, Request, State as Extract},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
        header::{AUTHORIZATION, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS},
    },
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

/// How long the body of a change may take: a transaction with a full payload at 50 KiB a second.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Refuses requests whose `Host` is a name that someone else may have pointed at this machine. One that stands in the
/// request line instead goes before the header (RFC 9112, section 3.2.2), so it is held to the same.
pub(super) async fn check_host(Extract(state): Extract<State>, request: Request, next: Next) -> Response {
    if is_for_us(request.uri(), request.headers(), state.addr) {
        next.run(request).await
    } else {
        ApiError::foreign_host().into_response()
    }
}

/// Refuses what a browser asks for in the name of another site's page. Only the status page may be linked to.
///
/// Such a page could read no answer, but it could take up the places of event streams.
pub(super) async fn check_site(request: Request, next: Next) -> Response {
    let same = |value: &HeaderValue| [&b"same-origin"[..], b"none"].contains(&value.as_bytes());
    let is_own = request.headers().get_all(SEC_FETCH_SITE).iter().all(same);
    if is_own || request.uri().path() == "/" {
        next.run(request).await
    } else {
        ApiError::foreign_origin().into_response()
    }
}

/// Refuses changes in the name of a page that is not this server's, whatever else the request has.
pub(super) async fn check_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    let is_own = |origin: &HeaderValue| {
        origin.as_bytes().strip_prefix(b"http://").is_some_and(|authority| Some(authority) == host)
    };
    if headers.get_all(ORIGIN).iter().all(is_own) {
        next.run(request).await
    } else {
        ApiError::foreign_origin().into_response()
    }
}

/// Takes in the body of a change, within its size and its time; the limit of the size is a layer's.
pub(super) async fn read_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    // One that says of itself that it is too large is not waited for.
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length > BODY_LIMIT) {
        return ApiError::too_large().into_response();
    }
    let whole = Bytes::from_request(Request::from_parts(head.clone(), body), &());
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, bytes.into())).await,
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            ApiError::too_large().into_response()
        }
        Ok(Err(_)) => ApiError::bad_request("the body could not be read").into_response(),
        Err(_) => ApiError::too_slow().into_response(),
    }
}

/// Tells browsers to give no answer to pages of others, not even as an image, and to take none for what it is not.
pub(super) async fn keep_to_this_origin(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Whether a request names this server, once and nobody else.
fn is_for_us(uri: &Uri, headers: &HeaderMap, bound: SocketAddr) -> bool {
    let is_own = |host: &str| is_own_host(host, bound);
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    host.to_str().is_ok_and(is_own) && uri.authority().is_none_or(|authority| is_own(authority.as_str()))
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
            "localhost.",
            "127.0.0.1.",
            "user@127.0.0.1",
            "127.0.0.1@evil.example",
            "127.0.0.1:80@evil.example",
            "127.0.0.1:26660:evil.example",
            "127.0.0.1:evil",
            "evil.example:127.0.0.1",
            "127.0.0.1, evil.example",
            "127.0.0.1/evil.example",
            "2130706433",
            "0x7f.1",
            "0.0.0.0",
            "[::]",
            "[127.0.0.1",
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
