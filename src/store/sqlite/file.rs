use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use rusqlite::config::DbConfig;
use rusqlite::types::{FromSql, ToSqlOutput, ValueRef};
use rusqlite::{params_from_iter, Connection, ErrorCode, OpenFlags, OptionalExtension, Row, ToSql};

use super::SqliteError;
use crate::channel::Progress;
use crate::store::record::name_values;
use crate::store::{
    progress_row, ChannelName, ChannelRow, ProgressRow, StoreError, StoredChannel, Value, CHANNEL_COLUMNS,
    PROGRESS_COLUMNS,
};

/// "Spil", in the header of the file.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"Spil");

/// The tables below.
const SCHEMA: i32 = 1;

const TABLES: &str = "
    CREATE TABLE store (
        id         INTEGER PRIMARY KEY CHECK (id = 1),
        instance   BLOB NOT NULL,
        generation INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE channel (
        id                      INTEGER PRIMARY KEY,
        funding                 BLOB NOT NULL,
        role                    INTEGER NOT NULL,
        key_id                  BLOB NOT NULL,
        open                    BLOB NOT NULL,
        accept                  BLOB NOT NULL,
        funding_tx              BLOB NOT NULL,
        refund_signature        BLOB,
        opened_height           INTEGER NOT NULL,
        opened_mtp              INTEGER NOT NULL,
        broadcast_funding_after INTEGER,
        checksum                INTEGER NOT NULL,
        UNIQUE (funding, role)
    ) STRICT;
    CREATE TABLE progress (
        id        INTEGER PRIMARY KEY REFERENCES channel (id),
        version   INTEGER NOT NULL,
        phase     INTEGER NOT NULL,
        paid      INTEGER NOT NULL,
        signature BLOB,
        rest      BLOB,
        checksum  INTEGER NOT NULL
    ) STRICT;
";

/// The one connection to the file, which no other process can open as long as this exists.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    connection: Connection,
    /// Where the channels are that were written since it was opened.
    ids: HashMap<ChannelName, i64>,
    sql: Sql,
}

#[derive(Debug)]
struct Sql {
    insert_channel: String,
    insert_progress: String,
    update_progress: String,
    load: String,
}

impl File {
    /// Opens the file, or creates it.
    pub fn open(path: &Path) -> Result<Self, SqliteError> {
        if !path.try_exists().map_err(|error| SqliteError::io(path, &error))? {
            create(path)?;
        }
        let failed = |error| SqliteError::new(path, &error);
        let connection = connect(path).map_err(failed)?;
        if connection.is_readonly("main").map_err(failed)? {
            let path = path.to_owned();
            return Err(SqliteError::ReadOnly { path });
        }
        check_header(path, &connection)?;
        let file = Self {
            path: path.to_owned(),
            connection,
            ids: HashMap::new(),
            sql: Sql::new(),
        };
        file.set_up()?;
        Ok(file)
    }

    fn set_up(&self) -> Result<(), SqliteError> {
        let failed = |error| SqliteError::new(&self.path, &error);
        let mode: String = self.query("PRAGMA journal_mode = WAL").map_err(failed)?;
        if mode != "wal" {
            let error = format!("expected the journal mode wal, got {mode}");
            return Err(SqliteError::io(&self.path, &error));
        }
        // Checkpoints are the writer's: SQLite's own would delay the tickets, and not report that they failed.
        let settings = "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA wal_autocheckpoint = 0;";
        self.connection.execute_batch(settings).map_err(failed)?;
        let found: String = self.query("PRAGMA integrity_check(1)").map_err(failed)?;
        if found != "ok" {
            return Err(self.damaged(found));
        }
        // Shows that the disk accepts a write before anything depends on it, and how often the file was opened.
        let generation = "UPDATE store SET generation = generation + 1";
        match self.connection.execute(generation, []).map_err(failed)? {
            1 => Ok(()),
            rows => Err(self.damaged(format!("expected 1 row in the table store, got {rows}"))),
        }
    }

    #[cfg(test)]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    fn query<T: FromSql>(&self, sql: &str) -> rusqlite::Result<T> {
        self.connection.query_row(sql, [], |row| row.get(0))
    }

    fn damaged(&self, error: String) -> SqliteError {
        let path = self.path.clone();
        SqliteError::Damaged { path, error }
    }

    /// Makes all that `changes` does durable, or fails.
    pub fn commit<T>(
        &mut self,
        changes: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        let run = |file: &mut Self| {
            file.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let result = changes(file)?;
            file.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(result)
        };
        let result = run(self);
        result.map_err(|error| SqliteError::new(&self.path, &error))
    }

    /// Adds a channel, or says why it cannot be added.
    pub fn insert(&mut self, channel: &StoredChannel) -> rusqlite::Result<Option<StoreError>> {
        let name = channel.name();
        let (row, progress) = channel.to_rows();
        let mut insert = self.connection.prepare_cached(&self.sql.insert_channel)?;
        if insert.execute(params_from_iter(&row))? == 0 {
            return Ok(Some(StoreError::Duplicate { channel: name }));
        }
        let id = self.connection.last_insert_rowid();
        let mut insert = self.connection.prepare_cached(&self.sql.insert_progress)?;
        insert.execute(params_from_iter(
            [&Value::Integer(id)].into_iter().chain(&progress),
        ))?;
        self.ids.insert(name, id);
        Ok(None)
    }

    /// Replaces the version before `first` by this progress, or says why it cannot be replaced.
    pub fn update(
        &mut self,
        channel: ChannelName,
        first: u64,
        progress: &Progress,
    ) -> rusqlite::Result<Option<StoreError>> {
        let Some(id) = self.id_of(channel)? else {
            return Ok(Some(StoreError::Unknown { channel }));
        };
        let before = first.wrapping_sub(1);
        let place = [id, before.cast_signed()].map(Value::Integer);
        let row = progress_row(channel, progress);
        let mut update = self.connection.prepare_cached(&self.sql.update_progress)?;
        if update.execute(params_from_iter(row.iter().chain(&place)))? == 1 {
            return Ok(None);
        }
        let mut version = self
            .connection
            .prepare_cached("SELECT version FROM progress WHERE id = ?1")?;
        let found: i64 = version.query_row([id], |row| row.get(0))?;
        Ok(Some(StoreError::Conflict {
            channel,
            found: found.cast_unsigned(),
            written: first,
        }))
    }

    fn id_of(&mut self, channel: ChannelName) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.ids.get(&channel) {
            return Ok(Some(*id));
        }
        let sql = "SELECT id FROM channel WHERE funding = ?1 AND role = ?2";
        let mut select = self.connection.prepare_cached(sql)?;
        let name = params_from_iter(name_values(channel));
        let id = select.query_row(name, |row| row.get(0)).optional()?;
        self.ids.extend(id.map(|id| (channel, id)));
        Ok(id)
    }

    /// Returns all channels, in the order in which they were written.
    pub fn load(&self) -> Result<Vec<StoredChannel>, SqliteError> {
        let failed = |error| SqliteError::new(&self.path, &error);
        let mut select = self.connection.prepare(&self.sql.load).map_err(failed)?;
        let rows = select.query_map([], |row| {
            let channel: ChannelRow = read_values(row, 0)?;
            let progress: ProgressRow = read_values(row, channel.len())?;
            Ok((channel, progress))
        });
        let rows = rows.map_err(failed)?;
        let read = |row: rusqlite::Result<(ChannelRow, ProgressRow)>| {
            let (channel, progress) = row.map_err(failed)?;
            let path = self.path.clone();
            StoredChannel::from_rows(&channel, &progress).map_err(|row| SqliteError::Row { path, row })
        };
        rows.map(read).collect()
    }

    /// Returns how many pages of the WAL are not in the file itself yet.
    pub fn pending_pages(&self) -> Result<u32, SqliteError> {
        self.checkpoint_with("PRAGMA wal_checkpoint(NOOP)")
    }

    /// Moves the WAL's pages into the file, so that the WAL begins again; returns how many could not be moved.
    pub fn checkpoint(&self) -> Result<u32, SqliteError> {
        self.checkpoint_with("PRAGMA wal_checkpoint(PASSIVE)")
    }

    fn checkpoint_with(&self, pragma: &str) -> Result<u32, SqliteError> {
        let run = || {
            let mut pragma = self.connection.prepare_cached(pragma)?;
            pragma.query_row([], |row| {
                let (wal, moved): (u32, u32) = (row.get(1)?, row.get(2)?);
                Ok(wal.saturating_sub(moved))
            })
        };
        run().map_err(|error| SqliteError::new(&self.path, &error))
    }

    /// After a failure nothing is written any more, not even when the file is closed.
    pub fn leave_as_it_is(&self) {
        let setting = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        // Fails only for a setting that SQLite does not know.
        let _ = self.connection.set_db_config(setting, true);
    }
}

impl Sql {
    fn new() -> Self {
        let insert = |table: &str, columns: &[&str]| {
            let places: Vec<_> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
            let (columns, places) = (columns.join(", "), places.join(", "));
            format!("INSERT INTO {table} ({columns}) VALUES ({places})")
        };
        let of = |table: &str, columns: &[&str]| {
            let columns: Vec<_> = columns.iter().map(|column| format!("{table}.{column}")).collect();
            columns.join(", ")
        };
        let set: Vec<_> = (1..)
            .zip(PROGRESS_COLUMNS)
            .map(|(place, column)| format!("{column} = ?{place}"))
            .collect();
        let (id, version) = (set.len() + 1, set.len() + 2);
        Self {
            insert_channel: insert("channel", &CHANNEL_COLUMNS) + " ON CONFLICT DO NOTHING",
            insert_progress: insert("progress", &[&["id"], &PROGRESS_COLUMNS[..]].concat()),
            update_progress: format!(
                "UPDATE progress SET {} WHERE id = ?{id} AND version = ?{version}",
                set.join(", ")
            ),
            // A channel whose progress is missing is an error, not a row less.
            load: format!(
                "SELECT {}, {} FROM channel LEFT JOIN progress USING (id) ORDER BY channel.id",
                of("channel", &CHANNEL_COLUMNS),
                of("progress", &PROGRESS_COLUMNS)
            ),
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    // Without the flag to create it: a file that vanished must not come back empty.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::ZERO)?;
    // The lock comes with the first read. It also keeps the index of the WAL out of shared memory.
    connection.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;
         PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0;",
    )?;
    Ok(connection)
}

fn check_header(path: &Path, connection: &Connection) -> Result<(), SqliteError> {
    let read = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get(0));
    let not_a_store = |found| SqliteError::NotAStore {
        path: path.to_owned(),
        found,
        expected: APPLICATION_ID,
    };
    let found = read("application_id").map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => not_a_store(0),
        _ => SqliteError::new(path, &error),
    })?;
    if found != APPLICATION_ID {
        return Err(not_a_store(found));
    }
    let found = read("user_version").map_err(|error| SqliteError::new(path, &error))?;
    if found != SCHEMA {
        let (path, known) = (path.to_owned(), SCHEMA);
        return Err(SqliteError::Schema { path, found, known });
    }
    Ok(())
}

/// Makes the file under another name and gives it its own once it is complete: no crash leaves half a store, and an empty
/// file is never a new one.
fn create(path: &Path) -> Result<(), SqliteError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        let folder = folder.to_owned();
        return Err(SqliteError::NoFolder { folder });
    }
    let wal = with_suffix(path, "-wal");
    if wal.exists() {
        let path = path.to_owned();
        return Err(SqliteError::StrayWal { path, wal });
    }
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => SqliteError::ReadOnly {
            path: path.to_owned(),
        },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => SqliteError::Full {
            path: path.to_owned(),
        },
        _ => SqliteError::io(path, &error),
    };
    let mut instance = [0; 16];
    getrandom::fill(&mut instance).map_err(|error| SqliteError::io(path, &error))?;
    let new = with_suffix(path, &format!(".{}.new", instance[..4].as_hex()));
    // Never a file that a store has open: closing it would give up the store's locks (POSIX).
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new);
    let made = made.map(drop).map_err(failed).and_then(|()| {
        lay_out(&new, &instance).map_err(|error| SqliteError::new(path, &error))?;
        match fs::hard_link(&new, path) {
            // Another process was faster, and this one is told that the file is in use.
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Ok(()),
        }
    });
    let _ = fs::remove_file(&new);
    made?;
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

fn lay_out(path: &Path, instance: &[u8]) -> rusqlite::Result<()> {
    let connection = connect(path)?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; BEGIN; PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {SCHEMA}; {TABLES}"
    ))?;
    connection.execute("INSERT INTO store VALUES (1, ?1, 0)", [instance])?;
    connection.execute_batch("COMMIT")?;
    connection.close().map_err(|(_, error)| error)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(path);
    path.push(suffix);
    path.into()
}

fn read_values<const N: usize>(row: &Row<'_>, first: usize) -> rusqlite::Result<[Value; N]> {
    let mut values = [const { Value::Null }; N];
    for (at, value) in (first..).zip(&mut values) {
        *value = match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
            other @ (ValueRef::Real(_) | ValueRef::Text(_)) => {
                let name = row.as_ref().column_name(at)?.to_owned();
                return Err(rusqlite::Error::InvalidColumnType(at, name, other.data_type()));
            }
        };
    }
    Ok(values)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}
