//! Versions: unsigned 64-bit decimals that order the states of a key (semantics §6).

use std::fmt;

/// A version. Greater is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// Why bytes are no version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAVersion {
    /// There are no digits at all.
    #[error("it is empty")]
    Empty,
    /// Something else than the digits 0 to 9: a sign, a point, a blank.
    #[error("it is no unsigned decimal")]
    NotDecimal,
    /// More than 18446744073709551615.
    #[error("it does not fit into 64 bits")]
    TooLarge,
}

impl Version {
    /// Reads an unsigned decimal; leading zeros are allowed, signs, blanks and exponents are not. Allocates nothing.
    ///
    /// ```
    /// use longshore::model::version::Version;
    /// assert_eq!(Version::parse(b"1700000000000"), Ok(Version(1_700_000_000_000)));
    /// ```
    pub fn parse(text: &[u8]) -> Result<Self, NotAVersion> {
        if text.is_empty() {
            return Err(NotAVersion::Empty);
        }
        if !text.iter().all(u8::is_ascii_digit) {
            return Err(NotAVersion::NotDecimal);
        }
        let value =
            text.iter().try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        value.map(Self).ok_or(NotAVersion::TooLarge)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_is_an_unsigned_64_bit_decimal() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("007", Ok(7)),
            ("18446744073709551615", Ok(u64::MAX)),
            ("00000000000000000000000001", Ok(1)),
            ("18446744073709551616", Err(NotAVersion::TooLarge)),
            ("99999999999999999999999", Err(NotAVersion::TooLarge)),
            ("", Err(NotAVersion::Empty)),
            ("+1", Err(NotAVersion::NotDecimal)),
            ("-1", Err(NotAVersion::NotDecimal)),
            (" 1", Err(NotAVersion::NotDecimal)),
            ("1.0", Err(NotAVersion::NotDecimal)),
            ("1e3", Err(NotAVersion::NotDecimal)),
            ("\u{661}", Err(NotAVersion::NotDecimal)),
        ] {
            assert_eq!(Version::parse(text.as_bytes()), expected.map(Version), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn every_number_is_read_as_it_is_written(number: u64) {
            let version = Version(number);
            prop_assert_eq!(Version::parse(version.to_string().as_bytes()), Ok(version));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let by_std = std::str::from_utf8(&bytes).ok().filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok());
            prop_assert_eq!(Version::parse(&bytes).ok(), by_std.map(Version));
        }
    }
}
