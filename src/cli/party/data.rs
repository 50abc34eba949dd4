//! The folder of a payer or a payee.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{bail, ensure, Context, Result};
use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::Network;
use clap::Args;
use spilman::channel::ChannelKeys;
use spilman::store::{ChannelName, RefundBackup, SqliteStore, StoredChannel};
use zeroize::Zeroizing;

use super::node::Node;
use super::wallet::Wallet;

/// A reorganisation does not reach this many blocks below the tip.
const SETTLED: u32 = 100;

#[derive(Args, Clone)]
pub struct DataArgs {
    /// The folder with seed, channels and backups, made on first use [default: ~/.spilman/payer or ~/.spilman/payee].
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What one folder is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Payer,
    Payee,
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Payee => "payee",
        }
    }
}

/// The folder of one side: its seed, its channels, and the chain that they are on.
pub struct DataDir {
    path: PathBuf,
    side: Side,
    seed: Zeroizing<[u8; 32]>,
}

impl DataArgs {
    fn path(&self, side: Side) -> Result<PathBuf> {
        if let Some(path) = &self.data {
            return Ok(path.clone());
        }
        let home = env::var_os("HOME").context("HOME is not set: name a folder with --data")?;
        Ok(PathBuf::from(home).join(".spilman").join(side.name()))
    }

    /// Opens the folder, or makes it with a new seed.
    pub fn open_or_make(&self, side: Side) -> Result<DataDir> {
        let path = self.path(side)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.with_context(|| format!("cannot make the folder {}", path.display()))?;
        let seed = path.join("seed");
        if !seed.exists() {
            let store = store_in(&path, side);
            ensure!(
                !store.exists(),
                "{} is there, but its seed {} is not: put the seed back, because nothing else signs for the channels",
                store.display(),
                seed.display()
            );
            make_seed(&path, &seed).with_context(|| format!("cannot make the seed {}", seed.display()))?;
        }
        DataDir::open(path, side)
    }

    /// Opens the folder of an earlier command.
    pub fn open(&self, side: Side) -> Result<DataDir> {
        let path = self.path(side)?;
        let make = match side {
            Side::Payer => "payer address",
            Side::Payee => "payee serve",
        };
        let seed = path.join("seed");
        ensure!(
            seed.exists(),
            "{} does not exist: name the folder with --data, put its seed back, or make a new one with `spilman {make}`",
            seed.display()
        );
        DataDir::open(path, side)
    }
}

fn store_in(path: &Path, side: Side) -> PathBuf {
    path.join(side.name()).with_extension("sqlite")
}

/// Of two processes that do this at once, one makes the seed, and both use it.
fn make_seed(folder: &Path, seed: &Path) -> Result<()> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    let text = Zeroizing::new(format!("{}\n", secret.to_lower_hex_string()));
    let half = folder.join(format!("seed.{}", std::process::id()));
    write_durably(&half, text.as_bytes(), 0o600)?;
    let linked = fs::hard_link(&half, seed);
    fs::remove_file(&half)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(File::open(folder)?.sync_all()?),
    }
}

fn write_durably(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file as a whole: nobody sees half of it, and neither does a process after a power cut.
fn replace_durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut half = path.as_os_str().to_owned();
    half.push(".half");
    write_durably(half.as_ref(), bytes, 0o600)?;
    fs::rename(&half, path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn read_seed(path: &Path) -> Result<Zeroizing<[u8; 32]>> {
    let named = || format!("cannot read the seed {}", path.display());
    let mode = fs::metadata(path).with_context(named)?.permissions().mode() & 0o777;
    ensure!(
        mode.trailing_zeros() >= 6,
        "others can read the seed {} (its mode is {mode:03o}): chmod 600 it",
        path.display()
    );
    let text = Zeroizing::new(fs::read_to_string(path).with_context(named)?);
    let seed = <[u8; 32]>::from_hex(text.trim_end());
    let seed =
        seed.with_context(|| format!("the seed {} is damaged: expected 64 hex digits", path.display()));
    Ok(Zeroizing::new(seed?))
}

impl DataDir {
    fn open(path: PathBuf, side: Side) -> Result<Self> {
        let seed = read_seed(&path.join("seed"))?;
        Ok(Self { path, side, seed })
    }

    pub fn keys(&self) -> ChannelKeys {
        ChannelKeys::new(*self.seed)
    }

    pub fn wallet(&self, network: Network) -> Result<Wallet> {
        Wallet::of_seed(&self.seed, network)
    }

    /// Opens the store. One process at a time has it.
    pub fn store(&self) -> Result<Arc<SqliteStore>> {
        Ok(Arc::new(SqliteStore::open(store_in(&self.path, self.side))?))
    }

    /// Where a running payee answers.
    pub fn socket(&self) -> PathBuf {
        self.path.join("status.sock")
    }

    /// Remembers the chain, or compares it: a channel is worth nothing on another one.
    pub async fn belongs_to(&self, node: &Node) -> Result<()> {
        let file = self.path.join("chain");
        let named = || format!("cannot use {}", file.display());
        let now = node.height().await?;
        let known = match fs::read_to_string(&file) {
            Ok(known) => known,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let height = now.saturating_sub(SETTLED);
                let line = format!("{} {height} {}\n", node.network, node.block_hash(height).await?);
                return replace_durably(&file, line.as_bytes()).with_context(named);
            }
            Err(error) => return Err(error).with_context(named),
        };
        let folder = self.path.display();
        let mut words = known.split_whitespace();
        let (Some(chain), Some(Ok(height)), Some(hash)) =
            (words.next(), words.next().map(str::parse::<u32>), words.next())
        else {
            bail!(
                "{} is damaged: expected a chain, a height and a block hash",
                file.display()
            );
        };
        let found = node.network.to_string();
        ensure!(
            chain == found,
            "{folder} belongs to {chain}, and the node is on {found}: use another --data for each chain"
        );
        ensure!(
            height <= now,
            "the node is at height {now}, but {folder} was made above height {height}: wait until the node has caught up"
        );
        let found = node.block_hash(height).await?.to_string();
        ensure!(
            hash == found,
            "{folder} belongs to another {chain}: its block {height} is {hash}, and the node's is {found}"
        );
        Ok(())
    }

    /// A file of one channel.
    fn file(&self, channel: &ChannelName, extension: &str) -> PathBuf {
        let funding = channel.funding;
        let name = format!("{}-{}.{extension}", funding.txid, funding.vout);
        self.path.join("channels").join(name)
    }

    /// Writes the backup of a payer's channel, and where its payee is. Both are on disk before the channel is opened.
    pub fn keep(&self, channel: &StoredChannel, payee: &str) -> Result<()> {
        let Some(backup) = RefundBackup::of(channel) else {
            return Ok(());
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.path.join("channels"))?;
        let name = channel.name();
        replace_durably(&self.file(&name, "payee"), payee.as_bytes())?;
        replace_durably(&self.file(&name, "refund"), &backup.to_bytes())?;
        Ok(())
    }

    /// Where the payee of a channel was when it was opened.
    pub fn payee_of(&self, channel: &ChannelName) -> Result<String> {
        let file = self.file(channel, "payee");
        let address = fs::read_to_string(&file).with_context(|| {
            format!(
                "the payee's address is not in {}: name it with --payee",
                file.display()
            )
        })?;
        Ok(address.trim_end().to_owned())
    }
}

/// Writes a backup where the user wants it, and never over another file.
pub fn write_backup(path: &Path, backup: &RefundBackup) -> Result<()> {
    ensure!(
        !path.exists(),
        "{} exists: choose another name for the backup",
        path.display()
    );
    replace_durably(path, &backup.to_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
