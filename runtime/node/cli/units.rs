//! Quantities as people write them: `10s`, `512M`, `2M`.

use clap::builder::FalseyValueParser;
use std::time::Duration;

/// Whether a flag is on, by its environment variable: not if that is empty, `0`, `no`, `off` or
/// `false`.
pub(crate) fn switch() -> FalseyValueParser {
    FalseyValueParser::new()
}

/// A name that is given by its place: what it names, and where such names are shown.
fn name(text: &str, what: &str, shown: &str) -> Result<String, String> {
    match text {
        "" => Err(format!("it is empty: give {what}, as {shown} shows it")),
        name => Ok(name.to_owned()),
    }
}

/// An agent's name.
pub(crate) fn agent(text: &str) -> Result<String, String> {
    name(text, "the agent's name", "`synod agent list`")
}

/// A module's name.
pub(crate) fn module(text: &str) -> Result<String, String> {
    name(text, "the module's name", "`synod module list`")
}

/// A transaction's id.
pub(crate) fn id(text: &str) -> Result<String, String> {
    name(text, "a transaction's id, as in 12-1", "the command whose outcome was unknown")
}

/// Milliseconds: `500ms`, `10s`, `1.5m`, `1h`; a bare number is seconds.
pub(crate) fn milliseconds(text: &str) -> Result<u64, String> {
    let scale = |unit: &str| match unit {
        "ms" => Some(1),
        "" | "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    quantity(text, scale, "as in 500ms, 10s, 2m or 1h")
}

/// How long threads may look for what comes, at most.
const MAX_BUSY_POLL: Duration = Duration::from_millis(100);

/// A short time: `200us`, `1ms`; none is `0`.
pub(crate) fn busy_poll(text: &str) -> Result<Duration, String> {
    const EXAMPLES: &str = "as in 200us or 1ms; 0 for not at all, and no more than 100ms";
    let scale = |unit: &str| match unit {
        "us" | "µs" => Some(1),
        "ms" => Some(1_000),
        "" | "s" => Some(1_000_000),
        _ => None,
    };
    let time = Duration::from_micros(quantity(text, scale, EXAMPLES)?);
    if time > MAX_BUSY_POLL {
        return Err(EXAMPLES.to_owned());
    }
    Ok(time)
}

/// As [`milliseconds`], of what may as well be days as seconds: nobody should have to guess the unit.
pub(crate) fn lasting(text: &str) -> Result<u64, String> {
    let days = text.trim().strip_suffix(['d', 'D']);
    match days {
        _ if text.trim().ends_with(|c: char| c.is_ascii_digit()) => {
            Err("say the unit: as in 30m, 24h or 7d".to_owned())
        }
        Some(days) => {
            let hours = milliseconds(&format!("{}h", days.trim())).ok();
            let days = hours.and_then(|hours| hours.checked_mul(24));
            days.ok_or_else(|| "as in 30m, 24h or 7d".to_owned())
        }
        None => milliseconds(text).map_err(|_| "as in 30m, 24h or 7d".to_owned()),
    }
}

/// Bytes: `64k`, `512M`, `1.5GiB`, by powers of 1024; a bare number is bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let scale = |unit: &str| match unit {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1 << 30),
        "t" | "tb" | "tib" => Some(1 << 40),
        _ => None,
    };
    quantity(text, scale, "as in 64k, 512M or 1.5GiB")
}

/// A count: `5000`, `20k`, `2M`, by powers of 1000.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let scale = |unit: &str| match unit {
        "" => Some(1),
        "k" => Some(1_000),
        "m" => Some(1_000_000),
        "g" => Some(1_000_000_000),
        _ => None,
    };
    quantity(text, scale, "as in 5000, 20k or 2M")
}

/// A number with at most three places behind its point, times what its unit stands for.
fn quantity(
    text: &str,
    scale: impl Fn(&str) -> Option<u64>,
    examples: &str,
) -> Result<u64, String> {
    let is_numeric = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_numeric(c)).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let parsed = || -> Option<u64> {
        let is_bare_point = number.ends_with('.') || whole.is_empty();
        if is_bare_point || part.len() > 3 {
            return None;
        }
        let part = format!("{part:0<3}").parse::<u64>().ok()?;
        let scale = scale(&unit.trim().to_ascii_lowercase())?;
        let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
        whole.checked_add(u64::try_from(u128::from(part) * u128::from(scale) / 1000).ok()?)
    };
    parsed().ok_or_else(|| examples.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_what_people_mean() {
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("10"), Ok(10_000));
        assert_eq!(milliseconds("1.5m"), Ok(90_000));
        assert_eq!(lasting("90s"), Ok(90_000));
        assert_eq!(lasting("1.5d"), Ok(36 * 3_600_000));
        assert_eq!(bytes("1.5GiB"), Ok(3 << 29));
        assert_eq!(busy_poll("0"), Ok(Duration::ZERO));
        assert_eq!(busy_poll("1.5ms"), Ok(Duration::from_micros(1500)));
        assert_eq!(busy_poll("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(bytes("64 k"), Ok(64 << 10));
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(count("2M"), Ok(2_000_000));
        assert_eq!(count("0.25k"), Ok(250));
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "s", "-1s", "1x", "1.s", ".5s", "1.2345s", "1.2.3s", "1e9s"] {
            assert!(milliseconds(text).is_err(), "{text}");
            assert!(lasting(text).is_err(), "{text}");
        }
        assert_eq!(lasting("5").unwrap_err(), "say the unit: as in 30m, 24h or 7d");
        assert!(lasting("d").is_err() && lasting("99999999999999999d").is_err());
        assert!(bytes("99999999999T").is_err());
        assert!(busy_poll("1").unwrap_err().contains("100ms"), "a second");
        assert!(bytes("20000000000000000000000").is_err());
    }
}
