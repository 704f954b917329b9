//! `${env:NAME}` and `${file:PATH}` in string values. What they stand for is used and never shown.

use std::path::Path;

use super::report::{Place, Problems};
use super::tree::Node;

/// Replaces every reference below `root`; paths are relative to `folder`, that of the configuration file.
pub(super) fn resolve(root: &mut Node, folder: &Path, problems: &mut Problems) {
    root.scalars_mut(&mut |place, scalar| {
        if scalar.written.contains("${") {
            let text = replaced(&scalar.written, folder, place, problems);
            scalar.broken = text.is_none();
            scalar.text = text.unwrap_or_default();
        }
    });
}

/// `None` when a reference leads nowhere; it has been reported.
fn replaced(written: &str, folder: &Path, place: Place, problems: &mut Problems) -> Option<String> {
    let mut text = String::with_capacity(written.len());
    let mut rest = written;
    let mut broken = false;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        // `$${` is a literal `${`.
        if let Some(literal) = before.strip_suffix('$') {
            text.push_str(literal);
            text.push_str("${");
            rest = reference;
            continue;
        }
        text.push_str(before);
        let Some(end) = reference.find('}') else {
            problems.error_with(place, "`${` without its `}`", Some("write `$${` for a literal `${`".into()));
            return None;
        };
        match lookup(&reference[..end], folder) {
            Ok(value) => {
                problems.hide(&value, &format!("${{{}}}", &reference[..end]));
                text.push_str(&value);
            }
            Err((message, hint)) => {
                problems.error_with(place, message, Some(hint));
                broken = true;
            }
        }
        rest = &reference[end + 1..];
    }
    text.push_str(rest);
    (!broken).then_some(text)
}

fn lookup(reference: &str, folder: &Path) -> Result<String, (String, String)> {
    match reference.split_once(':') {
        Some(("env", name)) => match std::env::var(name) {
            Ok(value) => Ok(value),
            Err(std::env::VarError::NotPresent) => {
                Err((format!("the environment variable `{name}` is not set"), format!("export {name}=…")))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err((format!("the environment variable `{name}` is not UTF-8"), "set it to text".into()))
            }
        },
        Some(("file", path)) => match std::fs::read_to_string(folder.join(path)) {
            Ok(value) => Ok(value.strip_suffix('\n').map_or(value.as_str(), |v| v.trim_end_matches('\r')).to_owned()),
            Err(error) => Err((
                format!("the file `{path}` cannot be read: {}", super::load::reason(&error)),
                "paths are relative to the folder of this file".into(),
            )),
        },
        _ => Err((
            format!("`${{{reference}}}` is no reference"),
            "`${env:NAME}`, `${file:PATH}`, or `$${` for a literal `${`".into(),
        )),
    }
}
