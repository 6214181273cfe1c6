//! Every dependency may be used and given on under our licence: what `cargo deny check licenses` says, without
//! building cargo-deny, which takes longer than all other checks together. `deny.toml` is the one list for both.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::Tool;

#[test]
fn every_dependency_has_an_allowed_licence() -> Result<()> {
    let allowed = allowed_licences()?;
    let mut refused = Vec::new();
    for package in packages()? {
        let name = format!("{} {}", text(&package["name"]), text(&package["version"]));
        match package["license"].as_str() {
            Some(licence) if allows(&allowed, licence) => {}
            licence => refused.push(format!("{name}: {}", licence.unwrap_or("no licence"))),
        }
    }
    ensure!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
    Ok(())
}

#[test]
fn no_licence_is_allowed_in_vain() -> Result<()> {
    let packages = packages()?;
    let licences: Vec<&str> = packages.iter().filter_map(|package| package["license"].as_str()).collect();
    for licence in allowed_licences()? {
        let wanted = licences.iter().any(|expression| expression.contains(&licence));
        ensure!(wanted, "deny.toml allows {licence}, which no dependency has");
    }
    Ok(())
}

#[test]
fn every_dependency_comes_from_crates_io_or_this_tree() -> Result<()> {
    for package in packages()? {
        let source = package["source"].as_str().unwrap_or("this tree");
        let known = ["this tree", "registry+https://github.com/rust-lang/crates.io-index"].contains(&source);
        ensure!(known, "{} comes from {source}", text(&package["name"]));
    }
    Ok(())
}

#[test]
fn expressions_are_read_as_spdx_means_them() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "Apache-2.0".to_owned()]);
    for good in
        ["MIT", "MIT OR GPL-3.0", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND Apache-2.0", "MIT AND Apache-2.0"]
    {
        assert!(allows(&allowed, good), "{good}");
    }
    for bad in
        ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR GPL-3.0) AND BSD-2-Clause", "", "MIT OR", "Apache-2.0 WITH X"]
    {
        assert!(!allows(&allowed, bad), "{bad}");
    }
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn packages() -> Result<Vec<Value>> {
    let words =
        ["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let metadata: Value = serde_json::from_str(&Tool::new("cargo").args(words).folder(&tree()).ok()?)?;
    let packages = metadata["packages"].as_array().context("packages in cargo's metadata")?.clone();
    ensure!(packages.len() > 20, "cargo names {} packages", packages.len());
    Ok(packages)
}

fn allowed_licences() -> Result<BTreeSet<String>> {
    let deny: toml::Value = toml::from_str(&std::fs::read_to_string(tree().join("deny.toml"))?)?;
    let allow = deny["licenses"]["allow"].as_array().context("licenses.allow in deny.toml")?;
    Ok(allow.iter().filter_map(|licence| licence.as_str().map(str::to_owned)).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

/// Whether an SPDX expression can be met by allowed licences alone. What cannot be read is not allowed.
fn allows(allowed: &BTreeSet<String>, expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any_of(allowed, &mut rest).unwrap_or(false) && rest.is_empty()
}

fn any_of(allowed: &BTreeSet<String>, words: &mut &[&str]) -> Option<bool> {
    let mut met = all_of(allowed, words)?;
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        met |= all_of(allowed, words)?;
    }
    Some(met)
}

fn all_of(allowed: &BTreeSet<String>, words: &mut &[&str]) -> Option<bool> {
    let mut met = one(allowed, words)?;
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        met &= one(allowed, words)?;
    }
    Some(met)
}

fn one(allowed: &BTreeSet<String>, words: &mut &[&str]) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let met = any_of(allowed, words)?;
        let (close, rest) = words.split_first()?;
        *words = rest;
        return (*close == ")").then_some(met);
    }
    let mut name = (*first).to_owned();
    if words.first() == Some(&"WITH") {
        name = format!("{name} WITH {}", words.get(1)?);
        *words = &words[2..];
    }
    Some(allowed.contains(&name))
}
