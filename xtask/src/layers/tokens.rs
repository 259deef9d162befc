//! The paths that a Rust source names, with `use` groups spread out; comments, strings and test modules left out.

/// One path, such as `std::time::Instant`, or a single word, and the line where it starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) line: usize,
    pub(super) path: Vec<String>,
}

/// Every path that the source names outside tests.
pub(super) fn paths(source: &str) -> Vec<Named> {
    let tokens = without_tests(tokenize(source));
    let mut named = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let Token { line, text } = &tokens[at];
        // `use<'a>` is no declaration, but says what a type captures.
        if text == "use" && tokens.get(at + 1).is_some_and(|next| next.text != "<") {
            at = use_tree(&tokens, at + 1, &mut Vec::new(), &mut named);
        } else if is_word(text) {
            let mut path = vec![text.clone()];
            at += 1;
            while at + 1 < tokens.len() && tokens[at].text == "::" && is_word(&tokens[at + 1].text) {
                path.push(tokens[at + 1].text.clone());
                at += 2;
            }
            named.push(Named { line: *line, path });
        } else {
            at += 1;
        }
    }
    named
}

/// The modules that exist in tests only, by name: `#[cfg(test)] mod model;`.
pub(super) fn test_modules(source: &str) -> Vec<String> {
    let tokens = tokenize(source);
    let positions = (0..tokens.len()).filter(|at| is_test_module(&tokens, *at));
    positions.map(|at| tokens[at + TEST_MODULE.len()].text.clone()).collect()
}

/// A word, `::`, or any other character.
#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads one tree of a `use` declaration from `at` on and says where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &mut Vec<String>, named: &mut Vec<Named>) -> usize {
    let depth = prefix.len();
    let mut line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => {}
            "as" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    // At least one token on, also through what is no Rust.
                    at = use_tree(tokens, at, prefix, named).max(at + 1);
                    if tokens.get(at).is_some_and(|token| token.text == ",") {
                        at += 1;
                    }
                }
                prefix.truncate(depth);
                return at + 1;
            }
            "," | "}" | ";" => break,
            text => {
                line = token.line;
                prefix.push(text.to_owned());
            }
        }
        at += 1;
    }
    named.push(Named { line, path: prefix.clone() });
    prefix.truncate(depth);
    at
}

const TEST_MODULE: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];

fn is_test_module(tokens: &[Token], at: usize) -> bool {
    let Some(window) = tokens.get(at..=at + TEST_MODULE.len()) else { return false };
    window.iter().zip(TEST_MODULE).all(|(token, expected)| token.text == expected)
}

/// The tokens without the bodies of test modules.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let body = at + TEST_MODULE.len() + 1;
        if is_test_module(&tokens, at) && tokens.get(body).is_some_and(|token| token.text == "{") {
            at = body + block_len(&tokens[body..]);
        } else {
            kept.push(at);
            at += 1;
        }
    }
    let mut kept = kept.into_iter().peekable();
    let mut index = 0;
    let mut tokens = tokens;
    tokens.retain(|_| {
        index += 1;
        kept.next_if_eq(&(index - 1)).is_some()
    });
    tokens
}

/// How many tokens the block takes that starts here.
fn block_len(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

fn tokenize(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let len = skipped(&chars[at..]);
        if len > 0 {
            line += chars[at..at + len].iter().filter(|c| **c == '\n').count();
            at += len;
            continue;
        }
        let word = chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        let len = match &chars[at..] {
            _ if word > 0 => word,
            [':', ':', ..] => 2,
            _ => 1,
        };
        tokens.push(Token { line, text: chars[at..at + len].iter().collect() });
        at += len;
    }
    tokens
}

/// How many characters of white space, comment, string or character literal start here.
fn skipped(chars: &[char]) -> usize {
    match chars {
        [c, ..] if c.is_whitespace() => 1,
        ['/', '/', ..] => chars.iter().take_while(|c| **c != '\n').count(),
        ['/', '*', ..] => block_comment(chars),
        ['"', ..] => 1 + string(&chars[1..]),
        ['b' | 'c', '"', ..] => 2 + string(&chars[2..]),
        ['r', '"' | '#', ..] => raw_string(chars, 1),
        ['b' | 'c', 'r', '"' | '#', ..] => raw_string(chars, 2),
        ['\'', '\\', ..] => 3 + chars[3.min(chars.len())..].iter().take_while(|c| **c != '\'').count() + 1,
        ['\'', _, '\'', ..] => 3,
        ['\'', ..] => 1 + chars[1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
        _ => 0,
    }
    .min(chars.len())
}

fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < chars.len() {
        match &chars[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a string after its opening quote, the closing one included.
fn string(chars: &[char]) -> usize {
    let mut at = 0;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The length of `r#"…"#` with so many letters before; none if it is a raw identifier.
fn raw_string(chars: &[char], letters: usize) -> usize {
    let hashes = chars[letters..].iter().take_while(|c| **c == '#').count();
    let start = letters + hashes + 1;
    if chars.get(start - 1) != Some(&'"') {
        return 0;
    }
    let closing: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let body = chars[start..].windows(closing.len()).position(|window| window == closing);
    start + body.map_or(chars.len(), |body| body + closing.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<String> {
        paths(source).into_iter().map(|named| named.path.join("::")).collect()
    }

    #[test]
    fn use_groups_are_spread_out() {
        let source = "use std::{fs, io::{self, Read as R}, time::*};\npub use ::a::b;";
        let expected = ["std::fs", "std::io::self", "std::io::Read", "std::time::*", "pub", "a::b"];
        assert_eq!(texts(source), expected);
    }

    #[test]
    fn paths_in_code_are_found_with_their_lines() {
        let named = paths("fn f() {\n    let x = std::time::Instant::now();\n}");
        let found = named.iter().find(|named| named.path.len() == 4).unwrap();
        assert_eq!((found.line, found.path.join("::").as_str()), (2, "std::time::Instant::now"));
    }

    #[test]
    fn comments_strings_and_characters_are_no_code() {
        let source = r####"
            // tokio
            /* tokio /* tokio */ tokio */
            //! tokio
            let a = "tokio \" tokio"; let b = r#"tokio " tokio"#; let c = b"tokio"; let d = br"tokio";
            let e = '"'; let f = '\''; let g = '\u{1F600}'; fn h<'tokio>(x: &'tokio str) {}
            let last = 1;
        "####;
        assert!(!texts(source).iter().any(|text| text.contains("tokio")), "{:?}", texts(source));
        assert!(texts(source).contains(&"last".to_owned()));
    }

    #[test]
    fn odd_words_are_read_and_lines_are_counted_through_strings() {
        assert_eq!(texts("fn f() -> impl T + use<'a> { g() }"), ["fn", "f", "impl", "T", "use", "g"]);
        let named = paths("let a = \"x\ny\";\nlet r#type = 1;\nend");
        assert_eq!(named.last(), Some(&Named { line: 4, path: vec!["end".to_owned()] }));
    }

    #[test]
    fn test_modules_are_left_out_and_what_follows_is_not() {
        let source = "before(); #[cfg(test)] mod tests { fn f() { tokio::spawn() } } after(); #[cfg(test)]\nmod model;";
        let texts = texts(source);
        assert!(texts.contains(&"before".to_owned()) && texts.contains(&"after".to_owned()));
        assert!(!texts.iter().any(|text| text.contains("tokio")));
        assert_eq!(test_modules(source), ["tests", "model"]);
    }

    #[test]
    fn unfinished_sources_end() {
        for source in [
            "\"",
            "'",
            "'\\",
            "/*",
            "r#\"",
            "use a::{b",
            "#[cfg(test)] mod t {",
            "b'",
            "r#",
            "use a::{;;",
            "use {,",
        ] {
            paths(source);
        }
    }
}
