//! Numbers, words and lines of a `/proc` text. Nothing here can overflow or index out of bounds.

/// Lines without their newline; a last line without one counts too.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

/// Words between spaces and tabs.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b' ' || byte == b'\t').filter(|word| !word.is_empty())
}

/// Splits at the first `separator`, which belongs to neither half.
pub(super) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Takes the digits of a number in `radix` from the front; `None` without a digit or when it overflows.
pub(super) fn take_number(text: &[u8], radix: u32) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let Some(digit) = char::from(*byte).to_digit(radix) else {
            break;
        };
        value = value.checked_mul(u64::from(radix))?.checked_add(u64::from(digit))?;
        rest = tail;
    }
    (rest.len() < text.len()).then_some((value, rest))
}

/// The whole of `text` as a number in `radix`.
pub(super) fn number(text: &[u8], radix: u32) -> Option<u64> {
    match take_number(text, radix)? {
        (value, []) => Some(value),
        _ => None,
    }
}

/// The whole of `text` as a decimal number with an optional minus sign.
pub(super) fn signed(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => 0i64.checked_sub_unsigned(number(digits, 10)?),
        digits => i64::try_from(number(digits, 10)?).ok(),
    }
}

/// A text for a message: escaped, and cut where it is long.
pub(super) fn shown(text: &[u8]) -> String {
    const MOST: usize = 80;
    match text.get(..MOST) {
        Some(head) if text.len() > MOST => format!("\"{}\"...", head.escape_ascii()),
        _ => format!("\"{}\"", text.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_do_not_overflow() {
        assert_eq!(number(b"18446744073709551615", 10), Some(u64::MAX));
        assert_eq!(number(b"18446744073709551616", 10), None);
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"9223372036854775808"), None);
        assert_eq!(signed(b"-"), None);
        assert_eq!(number(b"", 10), None);
        assert_eq!(take_number(b"7fff-", 16), Some((0x7fff, &b"-"[..])));
    }
}
