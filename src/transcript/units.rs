//! Numbers as people read them.

use bitcoin::Amount;

/// Returns an integer with a comma between thousands: `1,352`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Returns an amount in satoshi: `100,000 sat`.
#[must_use]
pub fn sat(amount: Amount) -> String {
    format!("{} sat", thousands(amount.to_sat()))
}

/// Returns an amount in bitcoin, always with eight decimals: `0.00100000 BTC`.
#[must_use]
pub fn btc(amount: Amount) -> String {
    let coin = Amount::ONE_BTC.to_sat();
    format!("{}.{:08} BTC", amount.to_sat() / coin, amount.to_sat() % coin)
}

/// Returns seconds since 1970 as a calendar time: `2023-11-15 22:13:20 UTC`.
#[must_use]
pub fn utc(seconds: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// Returns days since 1970-01-01 as year, month, day.
///
/// Howard Hinnant's [`civil_from_days`](https://howardhinnant.github.io/date_algorithms.html#civil_from_days)
/// for days that are not negative. Its years begin in March, so that the leap day is the last of its year.
fn civil_from_days(days: u32) -> (u32, u32, u32) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (year_of_era + era * 400 + u32::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(sat(Amount::from_sat(999)), "999 sat");
        assert_eq!(sat(Amount::from_sat(100_000)), "100,000 sat");
        assert_eq!(sat(Amount::MAX_MONEY), "2,100,000,000,000,000 sat");
        // Expected values are those of `date -u -d @N`.
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_709_251_199), "2024-02-29 23:59:59 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(u32::MAX), "2106-02-07 06:28:15 UTC");
    }
}
