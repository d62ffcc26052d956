//! Time as the pure machines see it: a number that the shell hands in. Nothing here reads a clock.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

/// A point in time, in microseconds since an origin that the shell chose and keeps: its own start,
/// an epoch, or nothing at all in a simulation. Points of different origins must not meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The origin.
    pub const ZERO: Self = Self(0);

    /// A point so many microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// A point so many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The next point that lies whole steps after the origin; none for a step of nothing.
    pub fn next_multiple(self, step: Duration) -> Option<Self> {
        let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let steps = self.0.checked_div(step)?.saturating_add(1);
        Some(Self(steps.saturating_mul(step)))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Stops at the last point there is.
    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Seconds, with as many decimals as it takes.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_micros(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_steps_are_counted_from_the_origin() {
        let step = Duration::from_millis(100);
        let next = |millis| Time::from_millis(millis).next_multiple(step);
        assert_eq!(next(0), Some(Time::from_millis(100)));
        assert_eq!(next(99), Some(Time::from_millis(100)));
        assert_eq!(next(100), Some(Time::from_millis(200)));
        assert_eq!(Time(u64::MAX).next_multiple(step), Some(Time(u64::MAX)));
        assert_eq!(Time::ZERO.next_multiple(Duration::ZERO), None);
    }

    #[test]
    fn time_goes_forward_and_stops_at_its_end() {
        let start = Time::from_millis(3);
        assert_eq!(start + Duration::from_micros(5), Time(3_005));
        assert_eq!(start + Duration::MAX, Time(u64::MAX));
        assert_eq!((start + Duration::from_secs(2)).since(start), Duration::from_secs(2));
        assert_eq!(start.since(start + Duration::from_secs(2)), Duration::ZERO);
    }
}
