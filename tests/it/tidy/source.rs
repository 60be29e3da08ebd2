//! Just enough of Rust's grammar to check rules by: comments and string contents told from code, tokens with their
//! lines, functions with their length, paths, and which lines are test code.

/// One file, split into code and comments.
pub struct Source {
    /// Path from the root of the repository, with `/`.
    pub path: String,
    /// The lines as they are.
    pub lines: Vec<String>,
    /// The same lines with comments and the contents of literals blanked.
    pub code: Vec<String>,
    /// The same lines with all but the comments blanked; documentation comments are blanked, too.
    pub comments: Vec<String>,
    /// Identifiers and punctuation of the code.
    pub tokens: Vec<Token>,
    /// Whether the line belongs to an item under `#[cfg(test)]`.
    pub is_test: Vec<bool>,
    /// Names of modules declared as `#[cfg(test)] mod NAME;`.
    pub test_modules: Vec<String>,
}

/// An identifier or one character of punctuation, with its line from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub first_line: usize,
    pub lines: usize,
}

impl Source {
    pub fn parse(path: &str, text: &str) -> Source {
        let (code, comments) = split(text);
        let lines = |text: &str| text.split('\n').map(String::from).collect::<Vec<_>>();
        let tokens = tokenize(&code);
        let mut source = Source {
            path: path.into(),
            lines: lines(text),
            code: lines(&code),
            comments: lines(&comments),
            tokens,
            is_test: vec![],
            test_modules: vec![],
        };
        source.mark_tests();
        source
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// Whether the tokens from `at` on are these, which are separated by blanks.
    pub fn is_at(&self, at: usize, words: &str) -> bool {
        words.split(' ').enumerate().all(|(i, word)| self.text(at + i) == word)
    }

    fn mark_tests(&mut self) {
        self.is_test = vec![false; self.lines.len()];
        for at in 0..self.tokens.len() {
            if !self.is_at(at, "# [ cfg ( test ) ]") && !self.is_at(at, "# [ cfg ( all ( test") {
                continue;
            }
            if self.text(at.wrapping_sub(1)) == "!" {
                continue;
            }
            let end = self.item_end(at);
            for line in self.tokens[at].line..=self.tokens[end].line {
                self.is_test[line] = true;
            }
            if self.text(end) == ";" && self.text(end.wrapping_sub(2)) == "mod" {
                self.test_modules.push(self.text(end - 1).into());
            }
        }
    }

    /// The token that ends the item that begins at `at`: its `;` or the brace that closes its body.
    fn item_end(&self, at: usize) -> usize {
        let mut depth = 0usize;
        for i in at..self.tokens.len() {
            match self.text(i) {
                "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                ";" if depth == 0 => return i,
                "{" if depth == 0 => return self.closing_brace(i),
                _ => {}
            }
        }
        self.tokens.len() - 1
    }

    fn closing_brace(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for i in open..self.tokens.len() {
            match self.text(i) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return i;
            }
        }
        self.tokens.len() - 1
    }

    /// All functions that have a body.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = vec![];
        for at in 0..self.tokens.len() {
            if self.text(at) != "fn" || !is_identifier(self.text(at + 1)) {
                continue;
            }
            let end = self.item_end(at);
            if self.text(end) == "}" {
                let first_line = self.tokens[at].line;
                let lines = self.tokens[end].line - first_line + 1;
                functions.push(Function { name: self.text(at + 1).into(), first_line, lines });
            }
        }
        functions
    }

    /// Paths that begin with `crate`, without it, each with its line: `use crate::{a, b::c}` gives `a` and `b::c`. A chain of
    /// `super` that leaves the topmost module counts as well.
    pub fn crate_paths(&self) -> Vec<(String, usize)> {
        let mut paths = vec![];
        let mut open_modules = vec![];
        let mut braces = 0usize;
        let mut at = 0;
        while at < self.tokens.len() {
            match self.text(at) {
                "{" => braces += 1,
                "}" => {
                    braces = braces.saturating_sub(1);
                    open_modules.retain(|&depth| depth < braces + 1);
                }
                "mod" if self.text(at + 2) == "{" => open_modules.push(braces + 1),
                "crate" if self.is_at(at + 1, ": :") => self.paths_of_tree(at + 3, "", &mut paths),
                "super" => {
                    let mut ups = 0;
                    while self.is_at(at, "super : :") {
                        ups += 1;
                        at += 3;
                    }
                    if ups > 0 && ups >= module_depth(&self.path) + open_modules.len() {
                        self.paths_of_tree(at, "", &mut paths);
                    }
                    if ups > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            at += 1;
        }
        paths
    }

    /// Adds the paths of the `use` tree or path that begins at token `at`; returns nothing, since callers go on token by token.
    fn paths_of_tree(&self, at: usize, prefix: &str, paths: &mut Vec<(String, usize)>) {
        if self.text(at) == "{" {
            let end = self.closing_brace(at);
            let mut begin = at + 1;
            let mut depth = 0usize;
            for i in at + 1..=end {
                match self.text(i) {
                    "{" => depth += 1,
                    "}" if i != end => depth -= 1,
                    _ => {}
                }
                if i == end || (self.text(i) == "," && depth == 0) {
                    if begin < i {
                        self.paths_of_tree(begin, prefix, paths);
                    }
                    begin = i + 1;
                }
            }
        } else if is_identifier(self.text(at)) || self.text(at) == "*" {
            let path = if prefix.is_empty() { self.text(at).into() } else { format!("{prefix}::{}", self.text(at)) };
            let next = self.text(at + 3);
            if self.is_at(at + 1, ": :") && (is_identifier(next) || next == "{" || next == "*") {
                self.paths_of_tree(at + 3, &path, paths);
            } else {
                paths.push((path, self.tokens[at].line));
            }
        }
    }

    /// Lines on which the crate of this name is used.
    pub fn uses_of_crate(&self, name: &str) -> Vec<usize> {
        let mut lines = vec![];
        for at in 0..self.tokens.len() {
            if self.text(at) != name {
                continue;
            }
            let before = self.text(at.wrapping_sub(1));
            let is_path = self.is_at(at + 1, ": :") && before != ":";
            if is_path || before == "use" || (before == "crate" && self.text(at.wrapping_sub(2)) == "extern") {
                lines.push(self.tokens[at].line);
            }
        }
        lines
    }

    /// Whether a comment explains the statement on this line: on the line, above it, or inside the statement before it.
    pub fn is_explained(&self, line: usize) -> bool {
        let mut at = line;
        loop {
            if !self.comments[at].trim().is_empty() {
                return true;
            }
            let Some(above) = at.checked_sub(1) else { return false };
            let code = self.code[above].trim();
            let ends_statement = code.ends_with([';', '{', '}']) || code.is_empty();
            if ends_statement {
                return code.is_empty() && !self.comments[above].trim().is_empty();
            }
            at = above;
        }
    }
}

/// How many modules deep the file is: 1 for `src/rest/mod.rs`, 2 for `src/rest/routes.rs`.
fn module_depth(path: &str) -> usize {
    let inner = path.rsplit_once("src/").map_or(path, |(_, inner)| inner);
    match inner {
        "lib.rs" | "main.rs" => 0,
        _ if inner.ends_with("/mod.rs") => inner.matches('/').count(),
        _ => inner.matches('/').count() + 1,
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokenize(code: &str) -> Vec<Token> {
    let mut tokens = vec![];
    for (line, text) in code.split('\n').enumerate() {
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = if word > 0 { word } else { first.len_utf8() };
            tokens.push(Token { text: rest[..length].into(), line });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// What a character belongs to.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Code,
    Comment,
    Blank,
}

/// Two texts of the same layout: the code, and the comments that are no documentation.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let mut parts = vec![Part::Code; chars.len()];
    let mut at = 0;
    while at < chars.len() {
        let (end, part, delimiters) = literal_or_comment(&chars, at);
        for (i, slot) in parts.iter_mut().enumerate().take(end).skip(at) {
            let is_delimiter = i < at + delimiters || i + delimiters >= end;
            *slot = if part == Part::Blank && is_delimiter { Part::Code } else { part };
        }
        at = end;
    }
    let keep = |wanted: Part| {
        let shown = |(&c, &part): (&char, &Part)| if c == '\n' || part == wanted { c } else { ' ' };
        chars.iter().zip(&parts).map(shown).collect::<String>()
    };
    (keep(Part::Code), keep(Part::Comment))
}

/// The end of what begins at `at`, what it is, and how many characters at each end are delimiters that stay visible.
fn literal_or_comment(chars: &[char], at: usize) -> (usize, Part, usize) {
    let peek = |i: usize| chars.get(at + i).copied().unwrap_or('\0');
    match (peek(0), peek(1)) {
        ('/', '/') => {
            let end = (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len());
            let is_doc = matches!((peek(2), peek(3)), ('/', c) if c != '/') || peek(2) == '!';
            (end, if is_doc { Part::Blank } else { Part::Comment }, 0)
        }
        ('/', '*') => {
            let is_doc = matches!((peek(2), peek(3)), ('*', c) if c != '*' && c != '/') || peek(2) == '!';
            (block_comment_end(chars, at), if is_doc { Part::Blank } else { Part::Comment }, 0)
        }
        ('"', _) => (string_end(chars, at + 1), Part::Blank, 1),
        ('r', '"' | '#') if !continues_word(chars, at) => match raw_string_end(chars, at + 1) {
            Some(end) => (end, Part::Blank, 1),
            None => (at + 1, Part::Code, 0),
        },
        ('\'', '\\') => {
            let end = (at + 3..chars.len()).find(|&i| chars[i] == '\'').unwrap_or(chars.len() - 1);
            (end + 1, Part::Blank, 1)
        }
        ('\'', _) if peek(2) == '\'' => (at + 3, Part::Blank, 1),
        _ => (at + 1, Part::Code, 0),
    }
}

/// Whether the `r` at `at` is the end of a longer word; the prefixes `br` and `cr` are none.
fn continues_word(chars: &[char], at: usize) -> bool {
    let word = |i: usize| i.checked_sub(1).is_some_and(|i| chars[i].is_alphanumeric() || chars[i] == '_');
    match at.checked_sub(1).map(|i| chars[i]) {
        Some('b' | 'c') => word(at - 1),
        _ => word(at),
    }
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    let open = at + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |&i: &usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes))
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0usize;
    let mut i = at;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    chars.len()
}
