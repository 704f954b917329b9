//! Finds and reads the files: the bridge file, then the topic and rule files that it names.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::interpolate;
use super::raw;
use super::read::{Read, read_at};
use super::report::{At, Place, Problems};
use super::tree;
use super::values::Paths;

/// All files as they were written.
pub(super) struct Files {
    pub bridge: Option<At<raw::Bridge>>,
    /// The folder of the bridge file.
    pub folder: PathBuf,
    pub topics: Vec<At<raw::TopicFile>>,
    pub rules: Vec<At<raw::RuleFile>>,
    /// Whether a rule file could not be read: what refers to it cannot be judged.
    pub rules_missing: bool,
}

/// Reads everything that can be read.
pub(super) fn files(path: &Path, problems: &mut Problems) -> Files {
    let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let mut files = Files {
        bridge: file(path, None, problems),
        folder: folder.clone(),
        topics: Vec::new(),
        rules: Vec::new(),
        rules_missing: false,
    };
    let Some(bridge) = &files.bridge else { return files };
    let nowhere = At { value: Paths::Folder("./topics".into()), place: bridge.place };
    let topics = bridge.value.topics.clone().unwrap_or(nowhere);
    let rules = bridge.value.rules.clone().or_else(|| {
        let default = folder.join("rules").is_dir();
        default.then(|| At { value: Paths::Folder("./rules".into()), place: bridge.place })
    });
    (files.topics, _) = all(&topics, "topics", &folder, problems);
    if let Some(rules) = rules {
        (files.rules, files.rules_missing) = all(&rules, "rules", &folder, problems);
    }
    files
}

/// Every file of a folder or list; whether one of them is missing.
fn all<T: Read>(paths: &At<Paths>, what: &str, folder: &Path, problems: &mut Problems) -> (Vec<At<T>>, bool) {
    let named: Vec<(PathBuf, Place)> = match &paths.value {
        Paths::Files(list) => list.iter().map(|file| (tidy(&folder.join(&file.value)), file.place)).collect(),
        Paths::Folder(name) => match yaml_files(&tidy(&folder.join(name))) {
            Ok(found) if found.is_empty() => {
                let hint =
                    format!("put a file into it for each of your {what}, or name another folder under `{what}:`");
                problems.error_with(paths.place, format!("the folder `{name}` holds no *.yaml file"), Some(hint));
                return (Vec::new(), true);
            }
            Ok(found) => found.into_iter().map(|path| (path, paths.place)).collect(),
            Err(error) => {
                let message = format!("the folder `{name}` cannot be read: {}", reason(&error));
                let hint = format!("`{what}:` names a folder or a list of files, relative to this file");
                problems.error_with(paths.place, message, Some(hint));
                return (Vec::new(), true);
            }
        },
    };
    let count = named.len();
    let read: Vec<At<T>> = named.into_iter().filter_map(|(path, place)| file(&path, Some(place), problems)).collect();
    let missing = read.len() < count;
    (read, missing)
}

/// One file. `named`: where another file names it, which is where its absence is reported.
fn file<T: Read>(path: &Path, named: Option<Place>, problems: &mut Problems) -> Option<At<T>> {
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            let file = problems.add_file(path, "");
            problems.error(Place::file(file), "the file is not UTF-8 text");
            return None;
        }
        Err(error) => {
            let what = named.map_or_else(|| "this file".to_owned(), |_| format!("the file `{}`", path.display()));
            let message = format!("{what} cannot be read: {}", reason(&error));
            let place = named.unwrap_or_else(|| Place::file(problems.add_file(path, "")));
            problems.error_with(place, message, hint_to_find(named));
            return None;
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let number = problems.add_file(path, text);
    let mut root = tree::parse(text, number, problems)?;
    interpolate::resolve(&mut root, path.parent().unwrap_or_else(|| Path::new("")), problems);
    read_at(&root, problems)
}

fn hint_to_find(named: Option<Place>) -> Option<String> {
    match named {
        Some(_) => Some("paths are relative to this file".into()),
        None => Some("name the bridge file with `-c FILE` or LONGSHORE_CONFIG".into()),
    }
}

fn yaml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The system's words without its error number.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it does not exist".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotADirectory => "it is no folder".into(),
        io::ErrorKind::IsADirectory => "it is a folder".into(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => error.to_string(),
    }
}

/// The path without `.` parts, as people write it.
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}
