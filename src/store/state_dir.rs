//! The folder of one bridge process: its lock, its name, small files that are written whole or not at all.
//!
//! Nothing in it is needed to keep the promises about records, which live in the clusters; a lost folder costs the
//! instance its name, and with it a few seconds until the group lets its successor in.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has it open.
    #[error("state_dir {path}: in use by another bridge{holder}; give each its own state_dir and --instance")]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` (process N)` when it is known.
        holder: String,
    },
    /// The instance's name has other characters than `A-Z a-z 0-9 . _ -`, or too many.
    #[error("instance name `{name}`: 1 to {INSTANCE_BYTES_MAX} of A-Z a-z 0-9 . _ -")]
    InstanceName {
        /// As it was given or found.
        name: String,
    },
    /// The file system refuses.
    #[error("{action} {path}: {error}")]
    Io {
        /// Present tense.
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Its words.
        error: io::Error,
    },
}

/// Longest instance name: it becomes a part of transactional ids and member names.
pub const INSTANCE_BYTES_MAX: usize = 100;

const LOCK_FILE: &str = "lock";
const INSTANCE_FILE: &str = "instance";

/// A bridge's folder, locked as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    instance: String,
    /// Keeps the lock; the system drops it with the process, however that ends.
    _lock: File,
}

impl StateDir {
    /// Opens the folder, making it when it is missing, and locks it. The instance is called `instance`, or else what
    /// the folder remembers, or else `<host>-<random>`, which it then remembers.
    pub fn open(path: &Path, instance: Option<&str>) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        let instance = match instance {
            Some(given) => checked(given)?,
            None => remembered(path)?,
        };
        Ok(Self { path: path.to_owned(), instance, _lock: lock })
    }

    /// The instance's name: unique, and the same after a restart.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file so that readers and crashes find the old or the new content, never a part.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        write_whole(&self.path, name, content)
    }

    /// The content of a file; `None` when it was never written.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Removes a file; fine when it is not there.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |error| Error::Io { action, path, error }
}

fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim();
            let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
            return Err(Error::InUse { path: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
    }
    let number = format!("{}\n", std::process::id());
    let written = file.set_len(0).and_then(|()| file.write_all(number.as_bytes()));
    written.map_err(io_error("write", &path))?;
    Ok(file)
}

fn remembered(folder: &Path) -> Result<String, Error> {
    let path = folder.join(INSTANCE_FILE);
    match fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return checked(name.trim()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error("read", &path)(error)),
    }
    let name = new_name();
    write_whole(folder, INSTANCE_FILE, format!("{name}\n").as_bytes())?;
    Ok(name)
}

fn checked(name: &str) -> Result<String, Error> {
    let fits = (1..=INSTANCE_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if fits { Ok(name.to_owned()) } else { Err(Error::InstanceName { name: name.to_owned() }) }
}

/// The host's name for people, 32 random bits so that copies of one image differ.
fn new_name() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    let host: String = host
        .unwrap_or_default()
        .trim()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .take(40)
        .collect();
    let host = if host.is_empty() { "bridge".to_owned() } else { host };
    // The standard library seeds each hasher from the system's randomness.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{host}-{:08x}", random as u32)
}

fn write_whole(folder: &Path, name: &str, content: &[u8]) -> Result<(), Error> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.new"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    written.map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(io_error("rename to", &path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_once_and_kept() {
        let folder = tempfile::tempdir().expect("temp folder");
        let path = folder.path().join("not/yet/there");
        let first = StateDir::open(&path, None).expect("opens").instance().to_owned();
        assert!(checked(&first).is_ok(), "{first}");
        assert_eq!(StateDir::open(&path, None).expect("opens").instance(), first);
        assert_eq!(StateDir::open(&path, Some("hz-1")).expect("opens").instance(), "hz-1");
    }

    #[test]
    fn two_folders_have_two_names() {
        let (one, two) = (tempfile::tempdir().expect("temp folder"), tempfile::tempdir().expect("temp folder"));
        let name =
            |folder: &tempfile::TempDir| StateDir::open(folder.path(), None).expect("opens").instance().to_owned();
        assert_ne!(name(&one), name(&two));
    }

    #[test]
    fn a_second_bridge_in_the_same_folder_is_told_so() {
        let folder = tempfile::tempdir().expect("temp folder");
        let held = StateDir::open(folder.path(), None).expect("opens");
        let refused = StateDir::open(folder.path(), None).expect_err("locked");
        assert!(matches!(refused, Error::InUse { .. }));
        let text = refused.to_string();
        assert!(text.contains("in use by another bridge") && text.contains(&std::process::id().to_string()), "{text}");
        drop(held);
        StateDir::open(folder.path(), None).expect("free again");
    }

    #[test]
    fn names_that_brokers_might_misread_are_refused() {
        let folder = tempfile::tempdir().expect("temp folder");
        for name in ["", "a b", "a/b", "é", &"x".repeat(INSTANCE_BYTES_MAX + 1)] {
            assert!(matches!(StateDir::open(folder.path(), Some(name)), Err(Error::InstanceName { .. })), "{name}");
        }
    }

    #[test]
    fn files_are_replaced_whole() {
        let folder = tempfile::tempdir().expect("temp folder");
        let state = StateDir::open(folder.path(), None).expect("opens");
        assert_eq!(state.read("note").expect("reads"), None);
        state.write("note", b"long content").expect("writes");
        state.write("note", b"short").expect("writes");
        assert_eq!(state.read("note").expect("reads").as_deref(), Some(b"short".as_slice()));
        assert!(!folder.path().join("note.new").exists());
        state.remove("note").expect("removes");
        state.remove("note").expect("nothing to remove is fine");
    }
}
