//! How often somebody may ask: a bucket of requests each, refilled with time.

use crate::failure::Failure;
use axum::http::StatusCode;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use types::{UnixMillis, limits};

/// What a request costs; so much a bucket of one request per minute gains in a minute.
const COST: i64 = 60_000;

/// What is counted apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Read,
    Write,
    /// Requests that need no token, and tokens that are not good: by address.
    Open,
    /// Refusals that are written down.
    Noted,
}

/// Requests per minute, and how many at once.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_minute: u32,
    pub burst: u32,
}

impl Rate {
    /// Reads of one principal: a third of a minute's requests may come at once.
    pub fn reads(per_minute: u32) -> Rate {
        Rate {
            per_minute: per_minute.max(1),
            burst: (per_minute / 3).max(1),
        }
    }

    /// Everything else of one principal: half a minute's requests may come at once.
    pub fn writes(per_minute: u32) -> Rate {
        Rate {
            per_minute: per_minute.max(1),
            burst: (per_minute / 2).max(1),
        }
    }
}

/// The buckets of this process.
#[derive(Default)]
pub struct Rates(Mutex<HashMap<(Kind, String), Bucket>>);

struct Bucket {
    level: i64,
    at: UnixMillis,
    full_at: UnixMillis,
}

impl Rates {
    /// Counts one request.
    ///
    /// # Errors
    /// The seconds after which there is room for it.
    pub fn take(&self, kind: Kind, who: &str, rate: Rate, now: UnixMillis) -> Result<(), u64> {
        let full = i64::from(rate.burst) * COST;
        let gain = i64::from(rate.per_minute);
        let mut buckets = self.0.lock();
        let key = (kind, who.to_owned());
        if buckets.len() >= limits::MANAGEMENT_RATES_MAX && !buckets.contains_key(&key) {
            make_room(&mut buckets, now);
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            level: full,
            at: now,
            full_at: now,
        });
        // A clock that was set back gives nothing and takes nothing.
        let passed = now.since(bucket.at).max(0);
        let gained = passed.saturating_mul(gain);
        bucket.level = bucket.level.saturating_add(gained).min(full);
        bucket.at = now;
        let missing = COST - bucket.level;
        if missing > 0 {
            let millis = missing.div_euclid(gain) + 1;
            return Err(u64::try_from(millis.div_euclid(1_000) + 1).unwrap_or(1));
        }
        bucket.level -= COST;
        bucket.full_at = now.plus((full - bucket.level).div_euclid(gain) + 1);
        Ok(())
    }
}

/// Forgets buckets that are full again, or else the one that is closest to it.
fn make_room(buckets: &mut HashMap<(Kind, String), Bucket>, now: UnixMillis) {
    buckets.retain(|_, bucket| bucket.full_at > now);
    if buckets.len() < limits::MANAGEMENT_RATES_MAX {
        return;
    }
    let closest = buckets.iter().min_by_key(|(_, bucket)| bucket.full_at);
    if let Some(key) = closest.map(|(key, _)| key.clone()) {
        buckets.remove(&key);
    }
}

/// How an address is counted: IPv6 by the block that one customer has.
pub fn of_address(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// 429 with the time after which the same request may come again.
pub fn too_many(whose: &str, seconds: u64) -> Failure {
    Failure::new(
        StatusCode::TOO_MANY_REQUESTS,
        "TooManyRequests",
        format!("Too many requests of {whose}; come again in {seconds} s."),
    )
    .retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_minute: 60,
        burst: 3,
    };

    fn at(millis: i64) -> UnixMillis {
        UnixMillis(1_000_000 + millis)
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let rates = Rates::default();
        let take = |millis| rates.take(Kind::Read, "a", RATE, at(millis));
        assert_eq!([take(0), take(0), take(0)], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(take(0), Err(2));
        assert_eq!(take(999), Err(1));
        assert_eq!(take(1_000), Ok(()));
        assert_eq!(take(1_000), Err(2));
        // A clock that runs backwards refills nothing.
        assert!(take(-50_000).is_err());
        assert_eq!(take(600_000), Ok(()));
    }

    #[test]
    fn kinds_and_principals_have_buckets_of_their_own() {
        let rates = Rates::default();
        for _ in 0..3 {
            assert_eq!(rates.take(Kind::Read, "a", RATE, at(0)), Ok(()));
        }
        assert!(rates.take(Kind::Read, "a", RATE, at(0)).is_err());
        assert_eq!(rates.take(Kind::Write, "a", RATE, at(0)), Ok(()));
        assert_eq!(rates.take(Kind::Read, "b", RATE, at(0)), Ok(()));
    }

    #[test]
    fn buckets_are_bounded_and_full_ones_go_first() {
        let rates = Rates::default();
        for _ in 0..3 {
            assert_eq!(rates.take(Kind::Open, "busy", RATE, at(0)), Ok(()));
        }
        for other in 0..limits::MANAGEMENT_RATES_MAX + 10 {
            assert_eq!(
                rates.take(Kind::Open, &other.to_string(), RATE, at(0)),
                Ok(())
            );
        }
        assert!(rates.0.lock().len() <= limits::MANAGEMENT_RATES_MAX);
        assert!(rates.take(Kind::Open, "busy", RATE, at(0)).is_err());
    }

    #[test]
    fn addresses_of_one_block_count_as_one() {
        let of = |text: &str| of_address(text.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }
}
