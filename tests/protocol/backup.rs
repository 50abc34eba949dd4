//! A payer's backup and its seed give the refund again, and nothing else does.

use spilman::channel::{ChannelState, KeyId, RestoreError};
use spilman::store::{BackupError, RefundBackup, StoredChannel};

use crate::pair::{channels, key, Case, Pair};

const KEY_ID: KeyId = KeyId::from_bytes([7; 16]);

fn backup(pair: &Pair) -> Vec<u8> {
    let state = ChannelState::Payer(pair.payer.state());
    let stored = StoredChannel {
        key_id: KEY_ID,
        state,
    };
    RefundBackup::of(&stored).expect("the payer's").to_bytes()
}

/// Whatever was paid since the backup was written, and on every construction.
#[test]
fn a_backup_gives_the_refund_again() {
    for case in channels() {
        let at = case.name();
        let written = backup(&case.funded());
        let pair = case.paying(&[1_000, 2_000]).open();
        assert_eq!(backup(&pair), written, "{at}: it changes with a payment");
        assert!(written.len() <= 330, "{at}: {} bytes", written.len());
        let backup = RefundBackup::from_bytes(&written).unwrap();
        assert_eq!(backup.key_id(), KEY_ID);
        assert_eq!(backup.funding(), pair.outpoint());
        assert_eq!(
            backup.refund(&key("payer")).unwrap().tx(),
            pair.payer.refund().tx(),
            "{at}"
        );
        let stranger = backup.refund(&key("stranger"));
        assert!(matches!(stranger, Err(RestoreError::WrongKey { .. })), "{at}");
        // The payee has no refund.
        let state = ChannelState::Payee(pair.payee.state());
        assert_eq!(
            RefundBackup::of(&StoredChannel {
                key_id: KEY_ID,
                state
            }),
            None
        );
    }
}

#[test]
fn a_damaged_backup_is_an_error() {
    let written = backup(&Case::new(spilman::channel::Protocol::Example7).funded());
    for end in 0..written.len() {
        RefundBackup::from_bytes(&written[..end]).unwrap_err();
    }
    for at in 0..written.len() {
        for bit in 0..8 {
            let mut changed = written.clone();
            changed[at] ^= 1 << bit;
            let error = RefundBackup::from_bytes(&changed).unwrap_err();
            let named = matches!(error, BackupError::AnotherFile | BackupError::Damaged { .. });
            assert!(named, "byte {at}: {error}");
        }
    }
    let error = RefundBackup::from_bytes(b"refund").unwrap_err().to_string();
    assert!(error.contains("begins with \"spilman refund 1\""), "{error}");
}
