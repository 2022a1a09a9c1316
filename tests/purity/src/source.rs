//! The paths that a Rust file names.
//!
//! No full parser: comments and literals are blanked, `use` trees are spread out, and what remains is read as chains of
//! identifiers joined by `::` or `.`. That is enough to see `std::fs`, `Instant::now` or `.elapsed`, also behind
//! `use std::{fs, net}`.

use std::{fs, io, path::Path, path::PathBuf};

/// A chain of identifiers and the line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mention {
    /// Counted from 1.
    pub line: usize,
    /// `["std", "fs", "read"]` for `std::fs::read`, `["start", "elapsed"]` for `start.elapsed()`.
    pub path: Vec<String>,
}

impl Mention {
    /// Whether `pattern`, words joined by `::`, occurs as neighbours in the path. A pattern of one word matches it as
    /// any part, and with a dot before it as any part but the first: a method, not a variable.
    pub fn matches(&self, pattern: &str) -> bool {
        if let Some(method) = pattern.strip_prefix('.') {
            return self.path.iter().skip(1).any(|word| word == method);
        }
        let words: Vec<&str> = pattern.split("::").collect();
        self.path.windows(words.len()).any(|part| part.iter().eq(&words))
    }
}

/// Every `.rs` file under `folder` that is not test code by its name (`tests.rs` or in a folder `tests`), sorted.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = all_files(folder)?;
    files.retain(|path| {
        let mut inside = path.strip_prefix(folder).unwrap_or(path).iter();
        !inside.any(|part| part == "tests" || part == "tests.rs")
    });
    Ok(files)
}

/// Every `.rs` file under `folder`, sorted; not what cargo wrote.
///
/// # Errors
/// When a folder cannot be read.
pub fn all_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The paths named in a source text, outside comments, literals and items under `#[cfg(test)]`.
pub fn mentions(text: &str) -> Vec<Mention> {
    let tokens = without_tests(tokens(text));
    let mut mentions = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is("use") {
            let end = tokens[at..]
                .iter()
                .position(|token| token.is(";"))
                .map_or(tokens.len(), |n| at + n);
            spread(&tokens[at + 1..end], &mut Vec::new(), &mut mentions);
            at = end;
        } else if tokens[at].is_word() {
            at = chain(&tokens, at, &mut mentions);
        } else {
            at += 1;
        }
    }
    mentions
}

#[derive(Debug, Clone)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Words, `::`, and single signs; comments and literals are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let len = skip(rest).unwrap_or_else(|| {
            let word = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let len = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            tokens.push(Token {
                line,
                text: rest[..len].to_owned(),
            });
            len
        });
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// How many bytes of white space, comment or literal `rest` begins with.
fn skip(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let from = |start: usize, end: &str| rest[start..].find(end).map_or(rest.len(), |n| start + n + end.len());
    match bytes[0] {
        b' ' | b'\n' | b'\t' | b'\r' => Some(1),
        b'/' if rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
        b'/' if rest.starts_with("/*") => Some(from(2, "*/")),
        b'"' => Some(quoted(bytes, 1)),
        b'b' | b'r' | b'c' => {
            let prefix = bytes.iter().take_while(|byte| b"brc".contains(byte)).count();
            let hashes = bytes[prefix..].iter().take_while(|byte| **byte == b'#').count();
            let is_text = prefix <= 2 && bytes.get(prefix + hashes) == Some(&b'"');
            let raw = bytes[..prefix].contains(&b'r');
            match (is_text, raw) {
                (true, true) => Some(from(prefix + hashes + 1, &format!("\"{}", "#".repeat(hashes)))),
                (true, false) if hashes == 0 => Some(quoted(bytes, prefix + 1)),
                _ => None,
            }
        }
        // A character literal, as opposed to a lifetime.
        b'\'' if bytes.get(1) == Some(&b'\\') => Some(from(3, "'")),
        b'\'' => {
            let close = rest[1..].chars().next()?.len_utf8() + 1;
            (bytes.get(close) == Some(&b'\'')).then_some(close + 1)
        }
        _ => None,
    }
}

/// Where a quoted text that began before `start` ends.
fn quoted(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Drops each item that stands under `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = &tokens[..];
    while let Some((first, after)) = rest.split_first() {
        if rest.len() >= MARK.len() && rest.iter().zip(MARK).all(|(token, text)| token.is(text)) {
            rest = &rest[item_len(rest)..];
        } else {
            kept.push(first.clone());
            rest = after;
        }
    }
    kept
}

/// How many tokens an item has: up to its closing brace, or to a semicolon outside braces.
fn item_len(tokens: &[Token]) -> usize {
    let mut depth = 0usize;
    for (n, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth <= 1 => return n + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return n + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Spreads a `use` tree into one mention per leaf; returns how many tokens were read.
fn spread(tokens: &[Token], prefix: &mut Vec<String>, mentions: &mut Vec<Mention>) -> usize {
    let own = prefix.len();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "{" => at += spread(&tokens[at..], &mut prefix.clone(), mentions),
            "," => prefix.truncate(own),
            "}" => break,
            "as" => at += 1,
            text if token.is_word() => {
                prefix.push(text.to_owned());
                mentions.push(Mention {
                    line: token.line,
                    path: prefix.clone(),
                });
            }
            _ => {}
        }
    }
    at
}

/// Reads one chain of words from `at`; returns where the text goes on.
fn chain(tokens: &[Token], at: usize, mentions: &mut Vec<Mention>) -> usize {
    let mut path = vec![tokens[at].text.clone()];
    let mut next = at + 1;
    while let [joint, word, ..] = &tokens[next..]
        && (joint.is("::") || joint.is("."))
        && word.is_word()
    {
        path.push(word.text.clone());
        next += 2;
    }
    mentions.push(Mention {
        line: tokens[at].line,
        path,
    });
    next
}
