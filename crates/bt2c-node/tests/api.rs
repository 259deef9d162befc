//! The control API and pages of others: what a browser can be made to send to loopback, over real sockets.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use support::Running;

/// A loopback name that nobody objects to.
const OWN: &str = "localhost";

/// Every call: method, path, and a body that it would take.
const READS: [&str; 8] =
    ["/", "/status", "/peers", "/peers/known", "/bans", "/blocks/0", "/events", "/metrics"];
const CHANGES: [(&str, &str, &str); 8] = [
    ("POST", "/verify", ""),
    ("POST", "/transactions", "{}"),
    ("POST", "/peers", r#"{"addr":"192.0.2.1:1"}"#),
    ("DELETE", "/peers/00", ""),
    ("POST", "/bans", r#"{"subject":"192.0.2.66"}"#),
    ("DELETE", "/bans/192.0.2.66", ""),
    ("POST", "/allow", r#"{"subject":"192.0.2.66"}"#),
    ("DELETE", "/allow/192.0.2.66", ""),
];

/// A node, and what is needed to ask it.
struct Api {
    node: Running,
    addr: String,
    authorisation: String,
    _dir: tempfile::TempDir,
}

impl Api {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Running::command(dir.path());
        let node = Running::spawn(command.envs(environment.iter().copied()), dir.path());
        let token = std::fs::read_to_string(dir.path().join("api.token")).unwrap();
        let authorisation = format!("Authorization: Bearer {}", token.trim());
        Self { addr: node.api_addr(), node, authorisation, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.addr).unwrap();
        stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
        stream
    }

    /// A request with exactly these header fields, and what tells the length of its body; status and whole answer.
    fn ask(&self, method: &str, target: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut stream = self.connect();
        let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        headers.iter().for_each(|header| request += &format!("{header}\r\n"));
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let code = answer.split(' ').nth(1).expect("a status line").parse().expect("a status");
        assert!(!answer.to_lowercase().contains("access-control-"), "{method} {target}: {answer}");
        (code, answer)
    }

    /// Asks for everything there is, with these header fields, without and with the token: each answer must be this one.
    fn ask_all(&self, headers: &[&str], expected: u16) {
        let authorised = [headers, &[&self.authorisation]].concat();
        for headers in [headers, &authorised] {
            let reads = READS.into_iter().map(|path| ("GET", path, ""));
            for (method, path, body) in reads.chain(CHANGES) {
                let (code, answer) = self.ask(method, path, headers, body);
                assert_eq!(code, expected, "{method} {path} with {headers:?}: {answer}");
                // Nothing but the refusal.
                let (_, said) = answer.split_once("\r\n\r\n").unwrap();
                assert!(said.starts_with(r#"{"error":""#), "{method} {path}: {answer}");
            }
        }
        assert_eq!(self.node.get("/bans"), serde_json::json!([]), "nothing was changed");
    }
}

#[test]
fn a_page_that_rebinds_its_name_to_loopback_reaches_no_call_with_or_without_the_token() {
    let api = Api::start();
    let port = api.addr.rsplit_once(':').unwrap().1;
    for host in ["evil.example".to_owned(), format!("evil.example:{port}")] {
        api.ask_all(&[&format!("Host: {host}")], 403);
        // As a browser sends it: to the page all of this is its own origin.
        let origin = format!("Origin: http://{host}");
        api.ask_all(&[&format!("Host: {host}"), &origin, "Sec-Fetch-Site: same-origin"], 403);
    }
}

#[test]
fn hosts_that_only_look_like_loopback_or_come_twice_are_refused() {
    let api = Api::start();
    for host in [
        "localhost.",
        "127.0.0.1.",
        "localhost.evil.example",
        "127.0.0.1.nip.io",
        "user@127.0.0.1",
        "127.0.0.1@evil.example",
        "127.0.0.1:80@evil.example",
        "127.0.0.1:26660:evil.example",
        "127.0.0.1:evil",
        "evil.example:127.0.0.1",
        "127.0.0.1,evil.example",
        "2130706433",
        "0.0.0.0",
        "[::]",
        "",
    ] {
        assert_eq!(api.ask("GET", "/status", &[&format!("Host: {host}")], "").0, 403, "{host:?}");
    }
    for hosts in [
        ["Host: localhost", "Host: evil.example"],
        ["Host: evil.example", "Host: localhost"],
        ["Host: localhost"; 2],
    ] {
        assert!(matches!(api.ask("GET", "/status", &hosts, "").0, 400 | 403), "{hosts:?}");
    }
    assert!(matches!(api.ask("GET", "/status", &[], "").0, 400 | 403), "no Host");
    // The name in the request line goes before the header.
    for (target, host, expected) in [
        ("http://evil.example/status", OWN, 403),
        ("http://localhost@evil.example/status", OWN, 403),
        ("http://evil.example@localhost/status", OWN, 403),
        ("http://localhost/status", "evil.example", 403),
        ("http://localhost/status", OWN, 200),
    ] {
        let (code, answer) = api.ask("GET", target, &[&format!("Host: {host}")], "");
        assert_eq!(code, expected, "{target}, {host}: {answer}");
    }
}

#[test]
fn a_change_that_a_page_of_another_origin_asks_for_is_refused_even_with_the_token() {
    let api = Api::start();
    let host = format!("Host: {}", api.addr);
    let own = format!("Origin: http://{}", api.addr);
    let ban = |headers: &[&str]| api.ask("POST", "/bans", headers, r#"{"subject":"192.0.2.66"}"#).0;
    // What needs no preflight: the body is JSON, but says that it is text.
    let simple = "Content-Type: text/plain";
    assert_eq!(ban(&[&host, simple]), 401);
    assert_eq!(ban(&[&host, simple, "Origin: http://evil.example", "Sec-Fetch-Site: cross-site"]), 403);
    for foreign in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: https://127.0.0.1",
        "Origin: http://127.0.0.1:1",
        "Origin: http://localhost",
        "Origin: file://",
        "Origin:",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: anything",
    ] {
        assert_eq!(ban(&[&host, simple, &api.authorisation, foreign]), 403, "{foreign}");
        assert_eq!(ban(&[&host, simple, &api.authorisation, &own, foreign]), 403, "{foreign} beside our own");
    }
    assert_eq!(api.node.get("/bans"), serde_json::json!([]));
    assert_eq!(ban(&[&host, &own, "Sec-Fetch-Site: same-origin", &api.authorisation]), 200);
}

#[test]
fn no_preflight_is_granted() {
    let api = Api::start();
    let host = format!("Host: {OWN}");
    let paths = READS.into_iter().chain(CHANGES.map(|(_, path, _)| path));
    for path in paths {
        for origin in ["Origin: http://evil.example", "Origin: http://localhost"] {
            let asked = [
                host.as_str(),
                origin,
                "Access-Control-Request-Method: POST",
                "Access-Control-Request-Headers: authorization,content-type",
                "Access-Control-Request-Private-Network: true",
            ];
            let (code, answer) = api.ask("OPTIONS", path, &asked, "");
            assert!(matches!(code, 403 | 405), "{path}: {answer}");
        }
    }
}

#[test]
fn a_page_of_another_site_can_take_no_answer_and_no_place_of_a_stream() {
    let api = Api::start();
    let host = format!("Host: {OWN}");
    for site in ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"] {
        for path in &READS[1..] {
            assert_eq!(api.ask("GET", path, &[&host, site], "").0, 403, "{path}, {site}");
        }
        // A link to the status page is no harm.
        let (code, page) = api.ask("GET", "/", &[&host, site], "");
        assert!(code == 200 && page.contains("cross-origin-resource-policy: same-origin"), "{page}");
    }
    for path in ["/status", "/blocks/7", "/nowhere"] {
        let (_, answer) = api.ask("GET", path, &[&host, "Sec-Fetch-Site: same-origin"], "");
        for header in ["cross-origin-resource-policy: same-origin", "x-content-type-options: nosniff"] {
            assert!(answer.contains(header), "{path}: {answer}");
        }
    }
}

/// Asks for the status on a connection that stays open, and reads the answer.
fn ask_and_stay(mut stream: &TcpStream) {
    stream.write_all(STATUS).unwrap();
    let mut answer = String::new();
    // The answer is an object, whatever pieces it comes in.
    while !answer.ends_with('}') {
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).unwrap();
        assert!(read > 0, "closed after {answer}");
        answer += std::str::from_utf8(&piece[..read]).unwrap();
    }
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

const STATUS: &[u8] = b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn no_more_connections_are_served_at_once_than_are_configured() {
    let api = Api::with(&[("BT2C_API_CONNECTIONS", "2")]);
    let held = [api.connect(), api.connect()];
    held.iter().for_each(ask_and_stay);
    let mut third = api.connect();
    third.write_all(STATUS).unwrap();
    // Long enough for the third, were it served.
    (0..25).for_each(|_| held.iter().for_each(ask_and_stay));
    third.set_nonblocking(true).unwrap();
    let waits = third.read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    third.set_nonblocking(false).unwrap();
    drop(held);
    assert_eq!(third.read(&mut [0]).unwrap(), 1, "its turn has come");
}

#[test]
fn a_chunked_body_is_bounded_like_any_other() {
    let api = Api::start();
    for (chunked, chunks, expected) in
        [(true, 128, 400), (true, 129, 413), (false, 128, 400), (false, 129, 413)]
    {
        let mut stream = api.connect();
        let length = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {}", chunks * 0x1000)
        };
        let head = format!("POST /bans HTTP/1.1\r\nHost: {OWN}\r\n{}\r\n{length}\r\n\r\n", api.authorisation);
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = "x".repeat(0x1000);
        let chunk = if chunked { format!("1000\r\n{chunk}\r\n") } else { chunk };
        let mut writer = stream.try_clone().unwrap();
        let mut said = [0; 12];
        std::thread::scope(|scope| {
            // It may be closed on before all of it is taken.
            scope.spawn(move || {
                let sent = (0..chunks).try_for_each(|_| writer.write_all(chunk.as_bytes()));
                sent.and_then(|()| if chunked { writer.write_all(b"0\r\n\r\n") } else { Ok(()) })
            });
            stream.read_exact(&mut said).unwrap();
        });
        assert_eq!(String::from_utf8_lossy(&said), format!("HTTP/1.1 {expected}"), "{chunks} chunks");
    }
}
