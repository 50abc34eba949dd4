use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::ErrorCode;
use thiserror::Error;

use crate::store::{DamagedRow, StoreError};

/// Why a file cannot be used as a store, or no longer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// Another process, or another store of this one, has it open.
    #[error("{} is in use by another process, or twice by this one: stop the other, or give each its own file", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It was not made by this program.
    #[error(
        "{} is not a store of this program: its application id is {found:#010x}, expected {expected:#010x}; choose \
         another path, or restore a backup if the file was overwritten", path.display()
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it says that it is; zero if it says nothing.
        found: i32,
        /// What a store says.
        expected: i32,
    },
    /// It was made by a version of this program whose files this one does not know.
    #[error(
        "{} has schema version {found}, and this program knows version {known}: open it with the program that wrote it, or \
         a later one", path.display()
    )]
    Schema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// This program's.
        known: i32,
    },
    /// The folder of the file is missing.
    #[error("there is no folder {}: create it, or correct the path of the store", folder.display())]
    NoFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// The newest changes of a file are there without the file.
    #[error(
        "{} is missing, but {} is there: put the file back, because the two belong together", path.display(), wal.display()
    )]
    StrayWal {
        /// The file.
        path: PathBuf,
        /// What was left of it.
        wal: PathBuf,
    },
    /// It cannot be written.
    #[error("{} cannot be written: make the file and its folder writable for this user", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// There is no room.
    #[error("no room left for {}: free some on its file system, then restart the process", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{} is damaged: {error}; keep it and its -wal, and restore a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        error: String,
    },
    /// A row is damaged.
    #[error("{row} (the store is {})", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The row.
        #[source]
        row: DamagedRow,
    },
    /// Anything else that the disk or the system refused.
    #[error("cannot use {}: {error}; check the disk, then restart the process", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// In the words of the system or of `SQLite`.
        error: String,
    },
}

impl SqliteError {
    pub(super) fn new(path: &Path, error: &rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path },
            Some(ErrorCode::DiskFull) => Self::Full { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) | None => {
                let error = error.to_string();
                Self::Damaged { path, error }
            }
            Some(_) => {
                let code = error.sqlite_extended_error_code().unwrap_or_default();
                let error = format!("{error} (SQLite's code {code})");
                Self::Io { path, error }
            }
        }
    }

    pub(super) fn io(path: &Path, error: &impl ToString) -> Self {
        let (path, error) = (path.to_owned(), error.to_string());
        Self::Io { path, error }
    }
}

impl From<SqliteError> for StoreError {
    fn from(error: SqliteError) -> Self {
        Self::Other(Arc::new(error))
    }
}
