//! Wrong configuration files and the exact words an operator gets for each. The files are small and complete, so that
//! nothing but the named mistake is reported; `tests/it/snapshots` holds the answers.
//!
//! Accept changed words with `INSTA_UPDATE=always` and read them as somebody who is on call would.

mod bridge;
mod documents;
mod examples;
mod rules;
mod secrets;
mod topics;

use std::path::Path;

use longshore::config::Config;
use tempfile::TempDir;

/// Three regions on the embedded broker.
pub const BRIDGE: &str = "\
center: hz
standby: [sh]
regions:
  hz: {broker: embedded}
  sh: {broker: embedded}
  bj: {broker: embedded}
topics: ./topics
rules: ./rules
";

/// Every mode.
pub const ORDERS: &str = "\
topic: orders
partitions: 4
routing_key: {header: ls_key}
version: {header: ls_version}
subscriptions:
  - group: inventory
    mode: center
  - group: timeline
    mode: unit
    rules: buyers
    idempotency: version
  - group: cache
    mode: all-unit
    delivery: direct
";

/// Two owners.
pub const BUYERS: &str = "\
rules: buyers
epoch: 1
slots: 100
hash: crc32
assign:
  - {slots: 0-59, region: hz}
  - {slots: 60-99, region: sh}
";

/// A folder with files that are right until they are edited.
pub struct Files {
    folder: TempDir,
}

impl Files {
    /// The three files above.
    pub fn right() -> Self {
        let files = Self { folder: TempDir::new().expect("a temporary folder") };
        files.with("longshore.yaml", BRIDGE).with("topics/orders.yaml", ORDERS).with("rules/buyers.yaml", BUYERS)
    }

    /// Writes a file.
    pub fn with(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create a folder");
        std::fs::write(path, text).expect("write a file");
        self
    }

    /// Replaces text in a file, where it must stand.
    pub fn edit(self, path: &str, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.folder.path().join(path)).expect("read a file");
        assert!(text.contains(from), "{path} does not hold {from:?}");
        self.with(path, text.replace(from, to))
    }

    /// Appends to a file.
    pub fn append(self, path: &str, more: &str) -> Self {
        let text = std::fs::read_to_string(self.folder.path().join(path)).expect("read a file");
        self.with(path, text + more)
    }

    /// Removes a file.
    pub fn without(self, path: &str) -> Self {
        std::fs::remove_file(self.folder.path().join(path)).expect("remove a file");
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Loads them.
    pub fn load(&self) -> Result<Config, longshore::config::Report> {
        Config::load(&self.path().join("longshore.yaml"))
    }

    /// The report, or the warnings when nothing is refused; the temporary folder is left out of it.
    pub fn report(&self) -> String {
        let text = match self.load() {
            Ok(config) => {
                let warnings = config.warnings.iter().map(|warning| format!("{warning}\n\n")).collect::<String>();
                format!("{warnings}valid")
            }
            Err(report) => report.to_string(),
        };
        text.replace(&format!("{}/", self.path().display()), "")
    }
}

#[test]
fn right_files_have_neither_errors_nor_warnings() {
    assert_eq!(Files::right().report(), "valid");
}
