//! Raw transactions as text, decoded from their bytes alone.

mod build;
mod bytes;
mod scripts;
mod story;
mod taproot;
mod templates;
mod vectors;
