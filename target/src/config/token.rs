//! The token that clients of the admin API show, read from a file that only its owner can read.
//!
//! Its one rule: it is never printed, and compared in constant time.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::mistake::Wrong;
use super::private::first_line;

const BYTES_MIN: usize = 16;

/// A secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

impl Token {
    /// The first line of the file at `path`.
    pub fn read(path: &Path) -> Result<Token, Wrong> {
        let shown = path.display();
        let line = first_line(path, "token")?;
        let token = line.trim();
        if token.len() < BYTES_MIN || token.len() > 512 || !token.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let cause = format!(
                "the token file {shown} holds no token of 16 to 512 printable characters in its first line"
            );
            return Err(Wrong::new(cause, format!("run: head -c 24 /dev/urandom | base64 > {shown}")));
        }
        Ok(Token(token.into()))
    }

    /// Whether `shown` is this token.
    pub fn admits(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// The value of an `Authorization` header that shows it.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("token");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("permissions");
        (directory, path)
    }

    #[test]
    fn a_token_admits_only_itself() {
        let (_directory, path) = file("0123456789abcdef\n", 0o600);
        let token = Token::read(&path).expect("a token");
        assert!(token.admits("0123456789abcdef"));
        assert!(!token.admits("0123456789abcdeg"));
        assert!(!token.admits(""));
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused() {
        let (_directory, path) = file("0123456789abcdef\n", 0o640);
        assert!(Token::read(&path).expect_err("refused").to_string().contains("chmod 600"));
    }

    #[test]
    fn a_short_token_is_refused() {
        let (_directory, path) = file("secret\n", 0o600);
        assert!(Token::read(&path).expect_err("refused").to_string().contains("16 to 512"));
    }
}
