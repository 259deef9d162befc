//! What nobody is to see: the private key and the token of the control API, looked for in everything that comes out.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, in their helpers too")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use bt2c_node::config::NodeConfig;
use bt2c_proto::Time;
use bt2c_security::{CertificateManager, Credentials, Identity, SecurityConfig, SecurityManager, fixtures};
use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use support::{Running, bt2c, bt2c_in, finish};

/// Bytes of the key in one thing to look for: too many to be there by chance.
const PIECE: usize = 24;

/// Texts of which none may appear.
struct Secrets(Vec<(&'static str, String)>);

impl Secrets {
    fn of(identity: &Identity) -> Self {
        let pem = identity.to_pem();
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64.decode(base64.as_bytes()).unwrap();
        let mut secrets = vec![("PEM", "PRIVATE KEY-----".to_owned())];
        // Some of it stands for all: nothing shows a part of a key and not the rest.
        for piece in secret_half(identity, &der).chunks_exact(PIECE).step_by(4) {
            secrets.push(("hex", HEXLOWER.encode(piece)));
            secrets.push(("hex", HEXUPPER.encode(piece)));
            secrets.push(("bytes", format!("{piece:?}").trim_matches(['[', ']']).to_owned()));
            // However the bytes before it fall on base64's groups of three.
            secrets.extend((0..3).map(|skip| ("base64", BASE64.encode(&piece[skip..skip + PIECE - 3]))));
        }
        Self(secrets)
    }

    fn and_token(mut self, home: &Path) -> Self {
        let token = fs::read_to_string(home.join("api.token")).unwrap().trim().to_owned();
        assert_eq!(token.len(), 64);
        self.0.push(("API token", token));
        self
    }

    /// Asserts that a text shows none of it, also when it was broken into lines.
    #[track_caller]
    fn absent(&self, place: &str, text: &str) {
        if let Some(kind) = self.shown_by(text) {
            panic!("{place} shows a secret as {kind}");
        }
    }

    fn shown_by(&self, text: &str) -> Option<&'static str> {
        let joined: String = text.replace("\\n", "").split_ascii_whitespace().collect();
        let shown = |secret: &str| text.contains(secret) || joined.contains(secret);
        self.0.iter().find(|(_, secret)| shown(secret)).map(|(kind, _)| *kind)
    }
}

/// What stands behind modulus and exponent, which are public, in a private key's DER.
fn secret_half<'a>(identity: &Identity, der: &'a [u8]) -> &'a [u8] {
    let spki = identity.public_key().spki_der();
    let public = &spki[spki.len() - 100..]; // the end of the modulus, and the exponent
    let at = der.windows(public.len()).position(|window| window == public).unwrap();
    let secret = &der[at + public.len()..];
    assert!(secret.len() > 800, "{} bytes", secret.len());
    secret
}

/// A data directory with a key that the test knows.
fn home(number: usize) -> (tempfile::TempDir, Identity) {
    let (dir, identity) = (tempfile::tempdir().unwrap(), fixtures::identity(number));
    let key = dir.path().join(CertificateManager::KEY_FILE);
    fs::write(&key, identity.to_pem().as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (dir, identity)
}

/// What a running node tells whoever asks, and the commands that ask it.
fn told(node: &Running, home: &Path) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for path in ["/", "/status", "/metrics", "/peers", "/peers/known", "/bans", "/blocks/0", "/nowhere"] {
        let url = format!("http://{}{path}", node.api_addr());
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(&url).call().unwrap();
        let headers = format!("{:?}", answer.headers());
        told.push((path.to_owned(), headers + &answer.body_mut().read_to_string().unwrap()));
    }
    for command in ["status", "peers", "bans"] {
        for json in [&[][..], &["--json"]] {
            told.push((command.to_owned(), bt2c_in(home, &[&[command], json].concat()).ok()));
        }
    }
    told
}

#[test]
fn neither_logs_nor_answers_nor_files_show_a_key_or_a_token() {
    let ((home_a, key_a), (home_b, key_b)) = (home(20), home(21));
    let a = Running::start(home_a.path(), &["--log", "trace", "--log-format", "json"]);
    let produce = ["--log", "trace", "--produce", "--key", "devnet:1"];
    let b = Running::start(home_b.path(), &produce);
    let secrets =
        [Secrets::of(&key_a).and_token(home_a.path()), Secrets::of(&key_b).and_token(home_b.path())];
    bt2c_in(home_a.path(), &["connect", &b.p2p_addr()]).ok();
    bt2c_in(home_a.path(), &["ban", "192.0.2.9", "--reason", "test"]).ok();
    let to = key_b.address().to_string();
    bt2c_in(home_a.path(), &["tx", "send", "--to", &to, "--amount", "5"]).ok();
    b.wait_until("/status", |status| status["height"].as_u64() > Some(0));
    let mut shown = told(&a, home_a.path());
    shown.extend(told(&b, home_b.path()));
    shown.push(("run.json".to_owned(), a.run_file().to_string()));
    let logs = [a.log(), b.log()];
    assert!(logs.iter().all(|log| log.contains("DEBUG")), "{logs:?}");
    shown.extend(logs.map(|log| ("the log".to_owned(), log)));
    for home in [&home_a, &home_b] {
        shown.extend(files(home.path()));
    }
    for secrets in &secrets {
        shown.iter().for_each(|(place, text)| secrets.absent(place, text));
    }
}

/// Every file of a data directory but the key, as text.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with(CertificateManager::KEY_FILE) {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.push((path.display().to_string(), text));
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn commands_show_a_key_to_nobody_whole_or_damaged() {
    let (home, identity) = home(22);
    let secrets = Secrets::of(&identity);
    for args in [&["id"][..], &["id", "--json"], &["id", "--public-key"]] {
        secrets.absent("id", &bt2c_in(home.path(), args).ok());
    }
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["id", "--help"],
        &["config", "print-default"],
        &["config", "print-default", "--network", "devnet"],
    ] {
        secrets.absent(&args.join(" "), &bt2c(args).ok());
    }
    let key = home.path().join(CertificateManager::KEY_FILE);
    let whole = fs::read_to_string(&key).unwrap();
    for damaged in
        [whole.replace("-----END", "----END"), format!("{whole}{whole}"), whole.replacen("\n", "\n*", 3)]
    {
        fs::write(&key, damaged).unwrap();
        for args in
            [&["id"][..], &["run", "--network", "devnet"], &["tx", "send", "--to", "x", "--amount", "1"]]
        {
            let outcome = finish(support::binary().args(args).arg("--data-dir").arg(home.path()));
            assert_ne!(outcome.code, 0);
            secrets.absent("an error", &(outcome.stdout + &outcome.stderr));
        }
    }
}

#[test]
fn debug_forms_show_no_key() {
    let (home, identity) = home(23);
    let secrets = Secrets::of(&identity);
    let credentials = Credentials::issue(identity.clone(), None, Time::from_secs(1_712_352_000)).unwrap();
    let mut config = NodeConfig::default();
    config.data_dir = Some(home.path().to_owned());
    for text in [
        format!("{identity:?} {identity:#?}"),
        format!("{credentials:?} {credentials:#?}"),
        format!("{config:?}"),
        format!("{:?}", SecurityManager::new(SecurityConfig::default())),
        format!("{:?}", CertificateManager::new(home.path())),
    ] {
        secrets.absent("a debug form", &text);
    }
}

#[test]
fn what_is_looked_for_would_be_found() {
    let identity = fixtures::identity(20);
    let secrets = Secrets::of(&identity);
    let pem = identity.to_pem();
    let body: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64.decode(body.concat().as_bytes()).unwrap();
    let secret = secret_half(&identity, &der);
    assert_eq!(secrets.shown_by(&pem), Some("PEM"));
    assert_eq!(secrets.shown_by(&body.join("\n")), Some("base64"));
    assert_eq!(secrets.shown_by(&body.join("\\n")), Some("base64"));
    for skip in 0..3 {
        assert_eq!(secrets.shown_by(&BASE64.encode(&secret[skip..200])), Some("base64"));
    }
    assert_eq!(secrets.shown_by(&HEXLOWER.encode(secret)), Some("hex"));
    assert_eq!(secrets.shown_by(&format!("key: {secret:?}")), Some("bytes"));
    assert_eq!(secrets.shown_by(&BASE64.encode(identity.public_key().spki_der())), None);
}
