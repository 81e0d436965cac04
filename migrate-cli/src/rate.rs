//! Rates of transfer as people write them.

/// What is written, and how many bytes a second that is. As rsync, virsh and qemu count: bytes, in powers of 1024; bits, as those
/// who sell lines do, in powers of 1000.
const UNITS: [(&str, f64); 9] = [
    ("K", 1024.0),
    ("M", 1048576.0),
    ("G", 1073741824.0),
    ("KiB", 1024.0),
    ("MiB", 1048576.0),
    ("GiB", 1073741824.0),
    ("kbit", 1e3 / 8.0),
    ("Mbit", 1e6 / 8.0),
    ("Gbit", 1e9 / 8.0),
];

/// Less is a mistake: a small process would take minutes.
const LEAST: f64 = 65536.0;

/// Parses `100M` or `800Mbit` into bytes a second.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let shape = || format!("`{text}` is no rate; write for example 100M (MiB a second), 1.5G or 800Mbit");
    let whole = text.strip_suffix("/s").unwrap_or(text);
    let digits = whole.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(whole.len());
    let (number, unit) = whole.split_at(digits);
    let number: f64 = number.parse().map_err(|_| shape())?;
    if unit.is_empty() {
        return Err(format!("`{text}` has no unit; write {whole}M for MiB a second, or {whole}Mbit"));
    }
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(shape)?;
    match number * factor {
        rate if rate < LEAST => Err(format!("`{text}` is less than 64K; leave it out for no limit")),
        // Faster than any line, and than a u64 of it can be.
        rate if rate > 1e15 => Err(format!("`{text}` is more than any line carries; leave it out for no limit")),
        rate => Ok(rate as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_rates_so() {
        let good = [
            ("100M", 100 << 20),
            ("1.5G", 3 << 29),
            ("64K", 65536),
            ("100MiB/s", 100 << 20),
            ("800Mbit", 100_000_000),
            ("1gbit", 125_000_000),
            ("2500kbit/s", 312_500),
        ];
        for (text, rate) in good {
            assert_eq!(parse_rate(text), Ok(rate), "{text}");
        }
    }

    #[test]
    fn and_not_so() {
        for text in
            ["", "M", "-5M", "5 M", "1..5G", "5T", "1e9M", "infM", "fast", "0M", "1K", "0", "99999999999G", "100MB"]
        {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert!(parse_rate("100").expect_err("no unit").contains("100Mbit"));
        assert!(parse_rate("0M").expect_err("nothing").contains("leave it out"));
    }
}
