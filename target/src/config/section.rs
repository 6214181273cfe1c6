//! Reading one table of a TOML file key by key, with the line and column of whatever is wrong.
//!
//! Its one rule: every key of the table is either read or reported, and a wrong value never hides the
//! next one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{At, Mistake, Origin, Slot, Wrong};

/// A file that is being read.
pub struct Source {
    /// Its path, as given.
    pub path: Arc<Path>,
    /// Its text.
    pub text: String,
    /// Its mode, when others than its owner can do something with it.
    pub open_to_others: Option<u32>,
}

impl Source {
    /// The place of a byte offset.
    pub fn origin(&self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The mistake `wrong`, at a byte offset.
    pub fn mistake(&self, offset: usize, wrong: Wrong) -> Mistake {
        wrong.at(&self.origin(offset))
    }

    fn resolve(&self, path: &str) -> PathBuf {
        let path = self.path.parent().unwrap_or(Path::new("")).join(path);
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// One table being read.
pub struct Section<'a> {
    source: &'a Source,
    name: &'static str,
    table: &'a DeTable<'a>,
    known: Vec<&'static str>,
    mistakes: &'a mut Vec<Mistake>,
}

impl<'a> Section<'a> {
    /// Reads `table`, which the file calls `name` (`[nbd]`).
    pub fn new(
        source: &'a Source,
        name: &'static str,
        table: &'a DeTable<'a>,
        mistakes: &'a mut Vec<Mistake>,
    ) -> Section<'a> {
        Section { source, name, table, known: Vec::new(), mistakes }
    }

    /// The value of `key` as `parse` understands it. A slot that another place has filled is a conflict.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        slot: &mut Slot<T>,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Wrong>,
    ) {
        self.known.push(key);
        let Some(value) = self.table.get(key) else { return };
        let origin = self.source.origin(value.span().start);
        match (parse(value.get_ref()), &slot) {
            (Err(wrong), _) => self.mistakes.push(named(key, wrong).at(&origin)),
            (Ok(_), Some(earlier)) => {
                let cause = format!("`{key}` of {} is set at {} too", self.name, earlier.origin);
                self.mistakes.push(Wrong::new(cause, "remove one of them").at(&origin));
            }
            (Ok(value), None) => *slot = Some(At::new(value, origin)),
        }
    }

    /// A path; a relative one counts from the folder of the file.
    pub fn read_path(&mut self, key: &'static str, slot: &mut Slot<PathBuf>) {
        let source = self.source;
        self.read(key, slot, |value| match text(value)? {
            "" => Err(Wrong::new("the path is empty", "name a path")),
            path => Ok(source.resolve(path)),
        });
    }

    /// The tables in the list `key`, each of them read, and finished, by `read`; people call one of them `name`.
    pub fn read_tables<T>(
        &mut self,
        key: &'static str,
        name: &'static str,
        slot: &mut Slot<Vec<T>>,
        read: impl Fn(&mut Section<'_>, Origin) -> T,
    ) {
        let Some(value) = self.table.get(key) else { return self.known.push(key) };
        let mut tables = Vec::new();
        for member in value.get_ref().as_array().into_iter().flatten() {
            tables.extend(self.read_member(name, member, &read));
        }
        self.read(key, slot, |value| match value {
            DeValue::Array(_) => Ok(tables),
            other => Err(Wrong::new(format!("it is {}", kind_of(other)), "write a list of tables, [{ … }]")),
        });
    }

    /// The one table at `key`.
    pub fn read_table<T>(
        &mut self,
        key: &'static str,
        name: &'static str,
        slot: &mut Slot<T>,
        read: impl Fn(&mut Section<'_>, Origin) -> T,
    ) {
        let Some(value) = self.table.get(key) else { return self.known.push(key) };
        let table = self.read_member(name, value, &read);
        match table {
            Some(table) => self.read(key, slot, |_| Ok(table)),
            None => self.known.push(key),
        }
    }

    fn read_member<T>(
        &mut self,
        name: &'static str,
        member: &Spanned<DeValue<'_>>,
        read: &impl Fn(&mut Section<'_>, Origin) -> T,
    ) -> Option<T> {
        let origin = self.source.origin(member.span().start);
        let Some(table) = member.get_ref().as_table() else {
            let cause = format!("{name} is {}", kind_of(member.get_ref()));
            self.mistakes.push(Wrong::new(cause, "write a table, { … }").at(&origin));
            return None;
        };
        let mut section = Section::new(self.source, name, table, self.mistakes);
        Some(read(&mut section, origin))
    }

    /// How many mistakes there are by now: more later means that what lies between is flawed.
    pub fn mistakes_so_far(&self) -> usize {
        self.mistakes.len()
    }

    /// A secret at `origin` is a mistake in a file that others can read; said once a file.
    pub fn refuse_if_others_read(&mut self, origin: &Origin) {
        let Some(mode) = self.source.open_to_others else { return };
        let shown = self.source.path.display();
        let cause = format!("{shown} holds a secret and can be read by others (mode {mode:03o})");
        if !self.mistakes.iter().any(|mistake| mistake.cause == cause) {
            let remedy = format!("run: chmod 600 {shown}, or move the secret to a secret_file");
            self.mistakes.push(Wrong::new(cause, remedy).on_machine().at(origin));
        }
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(&mut self) {
        for (key, _) in self.table.iter().filter(|(key, _)| !self.known.contains(&key.get_ref().as_ref())) {
            let cause = format!("{} has no setting `{}`", self.name, key.get_ref());
            let wrong = Wrong::new(cause, format!("known are {}", self.known.join(", ")));
            self.mistakes.push(self.source.mistake(key.span().start, wrong));
        }
    }
}

/// A string.
pub fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| expected("a text in quotes", value))
}

/// A string that `parse` understands.
pub fn text_as<T>(parse: impl Fn(&str) -> Result<T, Wrong>) -> impl FnOnce(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| parse(text(value)?)
}

/// A whole number from 0.
pub fn count(value: &DeValue<'_>) -> Result<u64, Wrong> {
    let integer = value.as_integer().ok_or_else(|| expected("a number", value))?;
    u64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| Wrong::new(format!("{} is out of range", integer.as_str()), "write a number from 0"))
}

/// `true` or `false`.
pub fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| expected("true or false", value))
}

/// A list, each of its members understood by `parse`; a single member may stand without brackets.
pub fn list_of<T>(
    parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
) -> impl FnOnce(&DeValue<'_>) -> Result<Vec<T>, Wrong> {
    move |value| match value {
        DeValue::Array(members) => members.iter().map(|member| parse(member.get_ref())).collect(),
        single => Ok(vec![parse(single)?]),
    }
}

/// A size: a text with a unit, or a bare number of bytes.
pub fn size(value: &DeValue<'_>) -> Result<u64, Wrong> {
    match value {
        DeValue::Integer(_) => count(value),
        _ => super::units::parse_size(value.as_str().ok_or_else(|| expected("a size like \"20G\"", value))?),
    }
}

/// What a TOML value is, for people.
pub fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The table behind a value, or what to say when it is none.
pub fn table_of<'v>(name: &str, value: &'v Spanned<DeValue<'v>>) -> Result<&'v DeTable<'v>, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("`{name}` is {}", kind_of(value.get_ref())),
            format!("write [{name}] and its settings below"),
        )
    };
    value.get_ref().as_table().ok_or_else(wrong)
}

fn expected(what: &str, value: &DeValue<'_>) -> Wrong {
    Wrong::new(format!("it is {}", kind_of(value)), format!("write {what}"))
}

fn named(key: &str, wrong: Wrong) -> Wrong {
    Wrong { cause: format!("`{key}`: {}", wrong.cause), ..wrong }
}
