//! PEM texts in settings: Java takes them on one line, with blanks where line ends were. OpenSSL wants lines.

/// Characters of base64 in a line.
const LINE: usize = 64;

/// The same blocks with line ends where they belong. An error says what is wrong, without the text: it may hold a key.
pub fn with_lines(text: &str) -> Result<String, &'static str> {
    const NO_BLOCK: &str = "it must be PEM: -----BEGIN ...----- and -----END ...----- around base64";
    let mut lines = String::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(NO_BLOCK);
    }
    while let Some(begin) = rest.find("-----BEGIN ") {
        let (label, behind) = rest[begin + 11..].split_once("-----").ok_or(NO_BLOCK)?;
        let end = format!("-----END {label}-----");
        let (body, behind) = behind.split_once(&end).ok_or(NO_BLOCK)?;
        lines.push_str(&format!("-----BEGIN {label}-----\n"));
        if body.contains(':') {
            // Headers of the old encrypted form; its lines mean something.
            lines.push_str(body.trim_start_matches(['\r', '\n']).trim_end());
            lines.push('\n');
        } else {
            let base64: Vec<char> = body.chars().filter(|c| !c.is_whitespace()).collect();
            let is_base64 = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
            if base64.is_empty() || !base64.iter().all(is_base64) {
                return Err(NO_BLOCK);
            }
            for line in base64.chunks(LINE) {
                lines.extend(line);
                lines.push('\n');
            }
        }
        lines.push_str(&end);
        lines.push('\n');
        rest = behind;
    }
    if lines.is_empty() { Err(NO_BLOCK) } else { Ok(lines) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_get_their_lines() {
        let long = "A".repeat(65);
        let text = format!(
            " -----BEGIN CERTIFICATE----- {long} QQ== -----END CERTIFICATE----- -----BEGIN X-----\nQUE=\n-----END X-----"
        );
        let expected = format!(
            "-----BEGIN CERTIFICATE-----\n{}\nAQQ==\n-----END CERTIFICATE-----\n-----BEGIN X-----\nQUE=\n-----END X-----\n",
            "A".repeat(64)
        );
        assert_eq!(with_lines(&text), Ok(expected.clone()));
        assert_eq!(with_lines(&expected), Ok(expected));
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nQUE=\n-----END RSA PRIVATE KEY-----\n";
        assert_eq!(with_lines(old).as_deref(), Ok(old));
    }

    #[test]
    fn what_is_no_pem_is_refused_without_being_shown() {
        for text in [
            "",
            "secret",
            "-----BEGIN X----- secret!",
            "-----BEGIN X----- -----END X-----",
            "-----BEGIN X-----QUE=-----END Y-----",
        ] {
            assert!(!with_lines(text).unwrap_err().contains("secret"), "{text}");
        }
    }
}
