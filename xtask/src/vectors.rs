//! `cargo xtask vectors`: the protocol page shows the golden vectors, and the code agrees with them.
//!
//! In `docs/protocol.md` a fence of the form ```` ```json vector=NAME ```` holds a vector's JSON, indented, and
//! ```` ```text vector=NAME ```` what its hash covers. Every JSON fence must be of that form, so that the page cannot show
//! a message that nobody checks. What stands between such fences is generated here; `--bless` writes it.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const PAGE: &str = "docs/protocol.md";
const DIRECTORY: &str = "crates/bt2c-proto/vectors";

/// Longest hex or base64 that is shown whole: a length-prefixed address fits.
const SHOWN: usize = 70;

/// Checks page and code against the vectors; with `bless`, first writes the vectors into the page.
///
/// # Errors
/// The first block of the page that differs, a vector file that cannot be read, or failing tests.
pub fn run(root: &Path, bless: bool) -> Result<()> {
    let page_path = root.join(PAGE);
    let page = read(&page_path)?;
    let expected = render(&page, &Vectors::load(&root.join(DIRECTORY))?)?;
    if page != expected {
        ensure!(
            bless,
            "{}\nrun `cargo xtask vectors --bless` to rewrite it",
            first_difference(&page, &expected)
        );
        fs::write(&page_path, expected).with_context(|| format!("writing {PAGE}"))?;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tests = Command::new(cargo)
        .args(["test", "--quiet", "-p", "bt2c-proto", "--test", "vectors"])
        .current_dir(root)
        .status()
        .context("running cargo test")?;
    ensure!(tests.success(), "bt2c-proto does not agree with its golden vectors");
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn first_difference(page: &str, expected: &str) -> String {
    let line = page.lines().zip(expected.lines()).take_while(|(found, wanted)| found == wanted).count();
    let (found, wanted) = (page.lines().nth(line).unwrap_or(""), expected.lines().nth(line).unwrap_or(""));
    format!("{PAGE}:{}: not what the vectors say\n  page:    {found}\n  vectors: {wanted}", line + 1)
}

/// The page with every block of a vector replaced by what the vector says.
fn render(page: &str, vectors: &Vectors) -> Result<String> {
    let mut rendered = String::with_capacity(page.len());
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        rendered += line;
        rendered.push('\n');
        let Some(info) = line.strip_prefix("```") else { continue };
        let at = || format!("{PAGE}:{}", index + 1);
        let block = match info.split_once(" vector=") {
            Some(("json", name)) => Some(vectors.json(name).with_context(at)?),
            Some(("text", name)) => Some(vectors.text(name).with_context(at)?),
            Some((language, _)) => bail!("{}: vectors are shown as json or text, not as {language}", at()),
            None if info.starts_with("json") => bail!("{}: a json block needs ` vector=NAME`", at()),
            None => None,
        };
        loop {
            let Some((_, line)) = lines.next() else { bail!("{}: this block has no end", at()) };
            if line == "```" {
                break;
            }
            if block.is_none() {
                rendered += line;
                rendered.push('\n');
            }
        }
        rendered += block.as_deref().unwrap_or_default();
        rendered += "```\n";
    }
    Ok(rendered)
}

/// What the page can show, by name.
struct Vectors {
    messages: BTreeMap<String, Value>,
    chain: BTreeMap<String, Value>,
}

impl Vectors {
    fn load(directory: &Path) -> Result<Self> {
        let parse = |file: &str| -> Result<Value> {
            let path = directory.join(file);
            serde_json::from_str(&read(&path)?).with_context(|| path.display().to_string())
        };
        let (messages, mut chain) = (parse("messages.json")?, parse("chain.json")?);
        let genesis = Value::Array(vec![chain["genesis"].take()]);
        let groups = [&genesis]
            .into_iter()
            .chain(["keys", "transactions", "merkle", "blocks", "slots"].iter().map(|group| &chain[*group]));
        Ok(Self { messages: by_name([&messages])?, chain: by_name(groups)? })
    }

    /// A message's body or an object's canonical form, indented. Minified, it is the vector to the byte.
    fn json(&self, name: &str) -> Result<String> {
        let (vectors, field) = if self.messages.contains_key(name) {
            (&self.messages, "body")
        } else {
            (&self.chain, "canonical")
        };
        let vector = vectors.get(name).with_context(|| format!("no vector is named {name}"))?;
        let text = vector[field].as_str().with_context(|| format!("{name} has no {field}"))?;
        Ok(indent(text) + "\n")
    }

    /// A frame as it goes on the wire, or what a hash covers and what it is. `NAME/leaf` is a transaction's Merkle leaf.
    fn text(&self, name: &str) -> Result<String> {
        if let Some(message) = self.messages.get(name) {
            return Ok(format!("{}{}\n", spaced(text_of(message, "header")), text_of(message, "body")));
        }
        let (object, is_leaf) = name.strip_suffix("/leaf").map_or((name, false), |object| (object, true));
        let vector = self.chain.get(object).with_context(|| format!("no vector is named {object}"))?;
        let (layout, results): (_, &[_]) =
            if is_leaf { ("leaf_layout", &[("leaf", "leaf")]) } else { ("layout", &RESULTS) };
        let mut rows = Vec::new();
        for piece in vector[layout].as_array().into_iter().flatten() {
            let (label, bytes) = (piece[0].as_str(), piece[1].as_str().unwrap_or_default());
            let len =
                if bytes.len() > SHOWN { format!(" ({} bytes)", bytes.len() / 2) } else { String::new() };
            rows.push((label.unwrap_or_default().to_owned(), cut(bytes) + &len));
        }
        for (number, leaf) in vector["leaves"].as_array().into_iter().flatten().enumerate() {
            rows.push((format!("leaf {number}"), leaf.as_str().unwrap_or_default().to_owned()));
        }
        for (field, label) in results {
            match &vector[*field] {
                Value::String(text) => rows.push(((*label).to_owned(), cut(text))),
                Value::Number(number) => rows.push(((*label).to_owned(), number.to_string())),
                _ => {}
            }
        }
        Ok(table(&rows))
    }
}

/// Fields of a chain vector that follow its layout, with their labels.
const RESULTS: [(&str, &str); 8] = [
    ("public_key", "public key, base64"),
    ("peer_id", "PeerId"),
    ("address", "address"),
    ("parameters_hash", "previous_hash"),
    ("hash", "hash"),
    ("root", "root"),
    ("remainder", "remainder"),
    ("proposer", "proposer"),
];

fn by_name<'a>(groups: impl IntoIterator<Item = &'a Value>) -> Result<BTreeMap<String, Value>> {
    let mut named = BTreeMap::new();
    for vector in groups.into_iter().flat_map(|group| group.as_array().into_iter().flatten()) {
        let name = vector["name"].as_str().context("a vector has no name")?;
        ensure!(named.insert(name.to_owned(), vector.clone()).is_none(), "two vectors are named {name}");
    }
    Ok(named)
}

fn text_of<'a>(vector: &'a Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_default()
}

/// Hex bytes, each followed by a space.
fn spaced(hex: &str) -> String {
    hex.as_bytes().chunks(2).flat_map(|pair| pair.iter().chain(b" ").copied().map(char::from)).collect()
}

/// A text that is short enough to show, or its beginning.
fn cut(text: &str) -> String {
    match text.get(..SHOWN / 2).filter(|_| text.len() > SHOWN) {
        Some(start) => format!("{start}…"),
        None => text.to_owned(),
    }
}

fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    rows.iter().map(|(label, value)| format!("{label:width$}  {value}\n")).collect()
}

/// JSON without white space, spread over lines. Nothing but white space is added.
fn indent(json: &str) -> String {
    let mut text = String::new();
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let mut chars = json.chars().peekable();
    let newline = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            text.push(c);
            continue;
        }
        match c {
            '{' | '[' => {
                text.push(c);
                // An empty list or object stays on its line.
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    text.push(close);
                } else {
                    depth += 1;
                    newline(&mut text, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                newline(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                newline(&mut text, depth);
            }
            ':' => text.push_str(": "),
            _ => {
                in_string = c == '"';
                text.push(c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vectors {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Vectors::load(&root.join(DIRECTORY)).unwrap()
    }

    #[test]
    fn the_protocol_page_shows_the_vectors() {
        let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(PAGE)).unwrap();
        let expected = render(&page, &vectors()).unwrap();
        assert!(page == expected, "{}", first_difference(&page, &expected));
    }

    #[test]
    fn indented_json_differs_in_white_space_only() {
        for (name, vector) in &vectors().messages {
            let body = text_of(vector, "body");
            let indented = indent(body);
            let (mut in_string, mut escaped) = (false, false);
            let minified: String = indented
                .chars()
                .filter(|&c| {
                    in_string = if in_string { escaped || c != '"' } else { c == '"' };
                    escaped = in_string && c == '\\' && !escaped;
                    in_string || !c.is_whitespace()
                })
                .collect();
            assert_eq!(minified, body, "{name}");
        }
        assert_eq!(
            indent(r#"{"a":[],"b":["{\",:"]}"#),
            "{\n  \"a\": [],\n  \"b\": [\n    \"{\\\",:\"\n  ]\n}"
        );
    }

    #[test]
    fn a_json_block_without_a_vector_is_refused() {
        for page in [
            "```json\n{}\n```\n",
            "```json vector=nothing\n```\n",
            "```rust vector=ping\n```\n",
            "```json vector=ping\n",
        ] {
            assert!(render(page, &vectors()).is_err(), "{page}");
        }
        assert_eq!(render("a\n```rust\nb\n```\nc\n", &vectors()).unwrap(), "a\n```rust\nb\n```\nc\n");
    }
}
