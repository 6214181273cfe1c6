//! CHAP users and their secrets, written in the configuration or in files of their own.
//!
//! Its one rule: a secret is taken only from a file that nobody but its owner can read, and never printed.

use std::path::{Path, PathBuf};

use wire::iscsi::chap::{ChapUser, Secret};

use crate::config::mistake::{Mistake, Origin, Slot, Wrong};
use crate::config::private::first_line;
use crate::config::section::{Section, text, text_as};

/// 96 bits are the least that CHAP may be given without encryption below it (RFC 7143 §9.2.1).
const SECRET_BYTES_MIN: usize = 12;
const SECRET_BYTES_MAX: usize = 255;

/// One user as written.
#[derive(Clone, Default)]
pub struct UserDraft {
    origin: Option<Origin>,
    flawed: bool,
    name: Slot<String>,
    secret: Slot<Vec<u8>>,
    secret_file: Slot<PathBuf>,
}

impl UserDraft {
    /// Reads `{ name = …, secret = … }`.
    pub fn read(section: &mut Section<'_>, origin: Origin) -> UserDraft {
        let mut draft = UserDraft { origin: Some(origin), ..UserDraft::default() };
        let already = section.mistakes_so_far();
        section.read("name", &mut draft.name, text_as(user_name));
        section.read("secret", &mut draft.secret, |value| checked_secret(text(value)?));
        section.read_path("secret_file", &mut draft.secret_file);
        if let Some(secret) = &draft.secret {
            section.refuse_if_others_read(&secret.origin);
        }
        section.finish();
        draft.flawed = section.mistakes_so_far() > already;
        draft
    }

    /// The user, its secret read from its file if it has one.
    pub fn resolve(self, mistakes: &mut Vec<Mistake>) -> Option<ChapUser> {
        let here = self.origin.unwrap_or(Origin::Default);
        if self.flawed {
            return None;
        }
        let secret = match (self.secret, self.secret_file) {
            (Some(secret), None) => Ok(secret.value),
            (None, Some(file)) => {
                read_secret(&file.value).map_err(|wrong| wrong.on_machine().at(&file.origin))
            }
            (Some(_), Some(file)) => {
                let wrong = Wrong::new("the CHAP user has a secret and a secret_file", "remove one of them");
                Err(wrong.at(&file.origin))
            }
            (None, None) => {
                let wrong =
                    Wrong::new("the CHAP user has no secret", "add secret_file = \"…\", or secret = \"…\"");
                Err(wrong.at(&here))
            }
        };
        let name = self.name.map(|at| at.value).ok_or_else(|| {
            Wrong::new("the CHAP user has no name", "add name = \"…\", what the initiator shows as CHAP_N")
                .at(&here)
        });
        match (name, secret) {
            (Ok(name), Ok(secret)) => Some(ChapUser { name, secret: Secret::new(secret) }),
            (name, secret) => {
                mistakes.extend(name.err());
                mistakes.extend(secret.err());
                None
            }
        }
    }
}

fn user_name(name: &str) -> Result<String, Wrong> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        let cause = format!("{name:?} cannot be a CHAP user's name");
        return Err(Wrong::new(cause, "use 1 to 255 bytes without control characters"));
    }
    Ok(name.to_owned())
}

/// The first line of the file at `path`.
fn read_secret(path: &Path) -> Result<Vec<u8>, Wrong> {
    checked_secret(&first_line(path, "secret")?)
        .map_err(|wrong| Wrong { cause: format!("{}: {}", path.display(), wrong.cause), ..wrong })
}

fn checked_secret(secret: &str) -> Result<Vec<u8>, Wrong> {
    let cause = match secret.len() {
        _ if secret.chars().any(char::is_control) => {
            "the CHAP secret contains a control character".to_owned()
        }
        bytes if bytes < SECRET_BYTES_MIN => {
            format!("the CHAP secret has {bytes} bytes; 96 bits are the least that is safe")
        }
        bytes if bytes > SECRET_BYTES_MAX => format!("the CHAP secret has {bytes} bytes"),
        _ => return Ok(secret.as_bytes().to_vec()),
    };
    let remedy = "use 12 to 255 bytes, and make them by chance: head -c 12 /dev/urandom | base64";
    Err(Wrong::new(cause, remedy))
}
