//! Raw transactions as text, decoded from their bytes alone.

mod build;
mod bytes;
mod templates;
