//! `spilman conform`, with good programs and bad ones.
