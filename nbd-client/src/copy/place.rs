//! Where a copy comes from or goes to: a file, a block device, or an export.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::{Error, Kind, Uri};

/// A file, a block device or an export.
#[derive(Clone, Debug)]
pub enum Place {
    /// A file or block device.
    File(PathBuf),
    /// An export, and the URI as it was written.
    Export(Box<Uri>, String),
}

impl FromStr for Place {
    type Err = Error;

    /// What begins like an NBD URI is one, all else is a path.
    fn from_str(text: &str) -> Result<Place, Error> {
        let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return match text {
                "" => Err(Error::new(Kind::Uri, "an empty name; write a path or an NBD URI")),
                "-" => {
                    let what = "standard input and output are not taken: a copy goes on where it stopped";
                    Err(Error::new(Kind::Uri, what)
                        .remedy("name a file or an NBD URI; ./- for a file called -"))
                }
                _ => Ok(Place::File(text.into())),
            };
        };
        if scheme.starts_with("nbd") {
            return Ok(Place::Export(Box::new(text.parse()?), text.to_owned()));
        }
        let what = format!("{text}: {scheme}:// is no scheme of NBD");
        Err(Error::new(Kind::Uri, what).remedy(format!("write nbd://…, or ./{text} for a file of that name")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::Export(_, text) => f.write_str(text),
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || "+-.".contains(char))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_scheme_is_a_path() {
        for path in ["disk.img", "/dev/sdb", "./nbd://x", "a b://c", "nbd", "nbd:x"] {
            assert!(matches!(path.parse(), Ok(Place::File(_))), "{path}");
        }
    }

    #[test]
    fn other_schemes_and_nothing_are_refused() {
        for text in ["http://host/disk.img", "ndb://host/x", "", "-"] {
            assert_eq!(text.parse::<Place>().expect_err(text).kind(), Kind::Uri);
        }
    }
}
