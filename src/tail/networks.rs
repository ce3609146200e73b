//! How many client networks have come, in bounded memory: a HyperLogLog with Ertl's estimator.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

/// One worker's part: 4 KiB, however many come.
pub struct Sketch(Box<[AtomicU8; REGISTERS]>);

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch(Box::new([const { AtomicU8::new(0) }; REGISTERS]))
    }
}

impl Sketch {
    /// Only one thread may call it.
    pub fn note(&self, address: IpAddr) {
        let (place, rank) = rank(mix(network(address)));
        let register = &self.0[place];
        if register.load(Ordering::Relaxed) < rank {
            register.store(rank, Ordering::Relaxed);
        }
    }
}

/// Several sketches added up.
pub struct Networks([u8; REGISTERS]);

impl Default for Networks {
    fn default() -> Networks {
        Networks([0; REGISTERS])
    }
}

impl Networks {
    /// The standard error of the estimate: 1.04 / √registers. Some tens are told exactly nearly always.
    pub const ERROR: f64 = 0.016_25;

    pub fn add(&mut self, sketch: &Sketch) {
        for (sum, register) in self.0.iter_mut().zip(sketch.0.iter()) {
            *sum = (*sum).max(register.load(Ordering::Relaxed));
        }
    }

    /// Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6: without bias from
    /// none to the most there can be.
    pub fn estimate(&self) -> u64 {
        let mut of_rank = [0_u32; RANKS + 2];
        self.0.iter().for_each(|register| of_rank[usize::from(*register)] += 1);
        let share = |rank: usize| f64::from(of_rank[rank]) / M;
        let mut z = M * tau(1.0 - share(RANKS + 1));
        for rank in (1..=RANKS).rev() {
            z = 0.5 * (z + f64::from(of_rank[rank]));
        }
        z += M * sigma(share(0));
        (M * M / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }
}

/// What counts as one client network: an IPv4 /24 or an IPv6 /48, about what one office or household's provider hands out.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => 1 << 63 | u64::from(v4.to_bits() >> 8),
        IpAddr::V6(v6) => (v6.to_bits() >> 80) as u64,
    }
}

/// The finish of SplitMix64: every bit of the result hangs on every bit of what it is of.
fn mix(bits: u64) -> u64 {
    let bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// The register a hash belongs to, and how many zeros begin the rest of it, and one.
fn rank(hash: u64) -> (usize, u8) {
    let rest = hash << BITS;
    let zeros = rest.leading_zeros().min(RANKS as u32);
    ((hash >> (64 - BITS)) as usize, zeros as u8 + 1)
}

fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        let before = z;
        x *= x;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        let before = z;
        x = x.sqrt();
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// Bits of a hash that choose the register.
const BITS: usize = 12;
const REGISTERS: usize = 1 << BITS;
const M: f64 = REGISTERS as f64;
/// Bits of a hash that are left.
const RANKS: usize = 64 - BITS;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// The estimate over two workers of so many networks, each seen by both.
    fn estimate(count: u32) -> u64 {
        let (one, other) = (Sketch::default(), Sketch::default());
        for n in 0..count {
            let address = IpAddr::V4(Ipv4Addr::from_bits((n << 8) | (n % 251)));
            one.note(address);
            other.note(address);
        }
        let mut networks = Networks::default();
        networks.add(&one);
        networks.add(&other);
        networks.estimate()
    }

    #[test]
    fn few_are_exact_and_many_are_within_the_error() {
        for exact in [0, 1, 2, 3, 7, 20, 40] {
            assert_eq!(estimate(exact), u64::from(exact));
        }
        for many in [100, 1_000, 10_000, 20_000, 100_000, 1_000_000] {
            let off = (estimate(many) as f64 / f64::from(many) - 1.0).abs();
            assert!(off < 3.0 * Networks::ERROR, "{many}: off by {off}");
        }
    }

    #[test]
    fn a_network_is_a_24_of_ipv4_and_a_48_of_ipv6() {
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("192.0.2.1", "192.0.2.255"));
        assert!(!same("192.0.2.1", "192.0.3.1"));
        assert!(same("2001:db8:1:2::1", "2001:db8:1:ffff::9"));
        assert!(!same("2001:db8:1::1", "2001:db8:2::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.9"), "the same client over a socket of both families");
        assert!(!same("::c0:2:0:0:0", "192.0.2.1"));
    }
}
