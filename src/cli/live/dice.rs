//! What is killed when.

use std::time::Duration;

/// `SplitMix64`: the same numbers for the same seed.
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Node,
    Payee,
    Payer,
}

impl Victim {
    pub const ALL: [Self; 3] = [Self::Node, Self::Payee, Self::Payer];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Payee => "payee",
            Self::Payer => "payer",
        }
    }
}

/// One kill.
#[derive(Debug, Clone, Copy)]
pub struct Kill {
    pub victim: Victim,
    /// The number of acknowledged payments after which it happens.
    pub after: u32,
    /// How much later it happens: a payment takes about a millisecond.
    pub delay: Duration,
}

/// All kills, in order. Of each three, every process is the victim of one.
pub fn schedule(dice: &mut Dice, kills: u32, payments: u32) -> Vec<Kill> {
    let mut left = Vec::new();
    let mut schedule: Vec<_> = (0..kills)
        .map(|_| {
            if left.is_empty() {
                left.extend(Victim::ALL);
            }
            let chosen = dice.below(left.len() as u64);
            Kill {
                victim: left.swap_remove(usize::try_from(chosen).unwrap_or_default()),
                after: u32::try_from(dice.below(payments.into())).unwrap_or_default(),
                delay: Duration::from_micros(dice.below(3_000)),
            }
        })
        .collect();
    schedule.sort_by_key(|kill| kill.after);
    schedule
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_in_order_and_in_equal_parts() {
        let kills = schedule(&mut Dice::new(7), 90, 1_000);
        assert!(kills.is_sorted_by_key(|kill| kill.after));
        for victim in Victim::ALL {
            assert_eq!(kills.iter().filter(|kill| kill.victim == victim).count(), 30);
        }
        let again = schedule(&mut Dice::new(7), 90, 1_000);
        assert_eq!(format!("{kills:?}"), format!("{again:?}"));
        assert_ne!(
            format!("{kills:?}"),
            format!("{:?}", schedule(&mut Dice::new(8), 90, 1_000))
        );
    }
}
