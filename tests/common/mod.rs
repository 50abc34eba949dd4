//! What several test binaries need.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each binary uses a part of it"
)]

/// Fails unless the value has this form, and shows the value.
macro_rules! assert_matches {
    ($value:expr, $pattern:pat $(if $guard:expr)? $(, $context:literal)?) => {
        match $value {
            $pattern $(if $guard)? => {}
            ref other => panic!(
                "expected {}, got {other:?}{}",
                stringify!($pattern $(if $guard)?),
                String::new() $(+ " at " + &format!($context))?
            ),
        }
    };
}
pub(crate) use assert_matches;

#[cfg(feature = "scenario")]
pub mod cast;
#[cfg(feature = "scenario")]
pub mod channel;
pub mod child;
#[cfg(feature = "regtest")]
pub mod judge;
#[cfg(feature = "channel")]
pub mod open;
#[cfg(feature = "channel")]
pub mod pair;
#[cfg(feature = "scenario")]
pub mod parties;
#[cfg(feature = "scenario")]
pub mod play;
#[cfg(feature = "regtest")]
pub mod proc;
#[cfg(feature = "scenario")]
pub mod relay;
#[cfg(feature = "scenario")]
pub mod spend;
#[cfg(feature = "regtest")]
pub mod wait;
