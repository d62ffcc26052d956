//! Limits that are near, in words.

/// The part of a limit, in percent, from which on it is near.
const NEAR_PERCENT: u64 = 80;
/// Commands that an agent may be behind before somebody should look.
pub(crate) const LAG: u64 = 10_000;

/// `memory: 85 % of its limit`, if that is near. A limit of 0 is none.
pub(crate) fn limit(what: &str, used: u64, limit: u64) -> Option<String> {
    let percent = u128::from(used) * 100 / u128::from(limit.max(1));
    let is_near = limit > 0 && percent >= u128::from(NEAR_PERCENT);
    is_near.then(|| format!("{what}: {percent} % of the limit"))
}

/// As [`limit`], of free space that writes must leave.
pub(crate) fn disk(free: u64, kept_free: u64) -> Option<String> {
    let is_near = free < kept_free.saturating_mul(2);
    let text = || {
        let (free, kept) = (free >> 20, kept_free >> 20);
        format!("disk: {free} MiB free, and below {kept} MiB writes are refused")
    };
    is_near.then(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_near_before_it_is_reached() {
        assert_eq!(limit("memory", 79, 100), None);
        assert_eq!(limit("memory", 85, 100).unwrap(), "memory: 85 % of the limit");
        assert_eq!(limit("memory", u64::MAX, 0), None, "0 is no limit");
        assert!(limit("memory", u64::MAX, u64::MAX).is_some());
        assert_eq!(disk(1 << 30, 256 << 20), None);
        let told = "disk: 300 MiB free, and below 256 MiB writes are refused";
        assert_eq!(disk(300 << 20, 256 << 20).unwrap(), told);
    }
}
