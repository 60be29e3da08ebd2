//! `sasl.jaas.config`: the text `Module flag name="value" ... ;` as Kafka's `JaasConfig` reads it with Java's `StreamTokenizer`.
//!
//! The text holds a password, so no error here quotes any of it.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

/// The one login module that a client has.
#[derive(PartialEq, Eq)]
pub struct LoginModule {
    /// Its class.
    pub class: String,
    /// Its options; of an option that is there twice, the last.
    pub options: BTreeMap<String, String>,
}

#[derive(PartialEq, Eq)]
enum Token {
    /// A bare or quoted word.
    Word(String),
    /// A bare number, which Java takes for no text.
    Number,
    /// Any other character.
    Sign(char),
}

/// Reads the text; an error says what it lacks.
pub fn parse(text: &str) -> Result<LoginModule, &'static str> {
    let mut tokens = Tokens(text.chars().peekable());
    let Some(Token::Word(class)) = tokens.next() else { return Err("it must begin with the class of a login module") };
    match tokens.next() {
        Some(Token::Word(flag)) if FLAGS.iter().any(|known| flag.eq_ignore_ascii_case(known)) => {}
        _ => return Err("required, requisite, sufficient or optional must follow the class of the login module"),
    }
    let mut options = BTreeMap::new();
    loop {
        match tokens.next() {
            Some(Token::Sign(';')) => break,
            Some(Token::Word(name)) => match (tokens.next(), tokens.next()) {
                (Some(Token::Sign('=')), Some(Token::Word(value))) => {
                    options.insert(name, value);
                }
                (Some(Token::Sign('=')), Some(Token::Number)) => {
                    return Err("a value that begins with a digit, a point or a minus must be in quotes");
                }
                _ => return Err("an option has no value: the form is name=\"value\""),
            },
            Some(_) => {
                return Err("there is something between the options that is no option: the form is name=\"value\"");
            }
            None => return Err("the semicolon at its end is missing, or a quote is not closed on its line"),
        }
    }
    match tokens.next() {
        None => Ok(LoginModule { class, options }),
        Some(_) => Err("it names more than one login module"),
    }
}

const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

struct Tokens<'a>(Peekable<Chars<'a>>);

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            match self.0.next()? {
                c if c <= ' ' => {}
                '/' => self.comment(),
                quote @ ('"' | '\'') => return Some(Token::Word(self.quoted(quote))),
                c if is_number_part(c) => {
                    while self.0.next_if(|&c| is_number_part(c)).is_some() {}
                    return Some(Token::Number);
                }
                c if is_word_part(c) => {
                    let mut word = String::from(c);
                    while let Some(c) = self.0.next_if(|&c| is_word_part(c)) {
                        word.push(c);
                    }
                    return Some(Token::Word(word));
                }
                c => return Some(Token::Sign(c)),
            }
        }
    }
}

impl Tokens<'_> {
    /// Behind a slash: to the end of the line, or of `/* */`.
    fn comment(&mut self) {
        if self.0.next_if_eq(&'*').is_some() {
            let mut last = ' ';
            for c in self.0.by_ref() {
                if last == '*' && c == '/' {
                    return;
                }
                last = c;
            }
        } else {
            while self.0.next_if(|&c| c != '\n' && c != '\r').is_some() {}
        }
    }

    /// Behind the opening quote. A line's end ends the text, as in Java.
    fn quoted(&mut self, quote: char) -> String {
        let mut text = String::new();
        while let Some(c) = self.0.next_if(|&c| c != '\n' && c != '\r') {
            match c {
                c if c == quote => break,
                '\\' => text.extend(self.escaped()),
                c => text.push(c),
            }
        }
        text
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.0.next()? {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            // Up to three octal digits, two when the first is above 3: at most 255.
            first @ '0'..='7' => {
                let mut code = first as u8 - b'0';
                let digits = if first <= '3' { 2 } else { 1 };
                for _ in 0..digits {
                    let Some(digit) = self.0.next_if(|c| ('0'..='7').contains(c)) else { break };
                    code = code * 8 + (digit as u8 - b'0');
                }
                char::from(code)
            }
            other => other,
        })
    }
}

fn is_number_part(c: char) -> bool {
    c.is_ascii_digit() || c == '.' || c == '-'
}

fn is_word_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '-' | '.') || c >= '\u{a0}'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options, `name=value` joined with a bar, or the error.
    fn check(text: &str, expected: &str) {
        let read = match parse(text) {
            Ok(module) => {
                let options = module.options.iter().map(|(name, value)| format!("|{name}={value}"));
                format!("{}{}", module.class, options.collect::<String>())
            }
            Err(why) => format!("error: {why}"),
        };
        assert!(read.starts_with(expected), "{text:?}: {read:?}");
    }

    #[test]
    fn texts_are_read_as_java_reads_them() {
        check(r#"a.B required username="me" password="it's;=";"#, "a.B|password=it's;=|username=me");
        check("a.B$C_d-e REQUIRED\n  x=y\n  z='a \"quoted\" word' ;\n", "a.B$C_d-e|x=y|z=a \"quoted\" word");
        check(r#"A optional p="a\"b\\c\td\101\7z\477";"#, "A|p=a\"b\\c\tdA\u{7}z'7");
        check("A required // x=1;\n /* y=\"2\"; */ z=\"\u{e4}\u{4e2d}\" / rest\n;", "A|z=\u{e4}\u{4e2d}");
        check("A required x=1;", "error: a value that begins with a digit");
        check("A required;", "A");
        check("A required x=a x=b;", "A|x=b");
    }

    #[test]
    fn what_is_missing_is_said_and_nothing_is_quoted() {
        for (text, expected) in [
            ("", "error: it must begin"),
            ("\"hunter2\"", "error: required, requisite"),
            ("A needed x=\"hunter2\";", "error: required, requisite"),
            ("A required x=\"hunter2\"", "error: the semicolon"),
            ("A required x=\"hunter2;\n", "error: the semicolon"),
            ("A required x \"hunter2\";", "error: an option has no value"),
            ("A required =\"hunter2\";", "error: there is something"),
            ("A required x=\"hunter2\"; B required;", "error: it names more than one"),
        ] {
            check(text, expected);
            assert!(!parse(text).err().unwrap().contains("hunter2"));
        }
    }
}
