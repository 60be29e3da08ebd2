//! Numbers that look random and follow from what they are for: the same seed, task, sequence and field give the same ones, on
//! every machine. (SplitMix64 by Steele, Lea and Flood, 2014; its mixing function also joins the parts of a seed.)

/// The distance of two states, 2^64 divided by the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What numbers follow from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// This seed and a number. Different numbers give different seeds.
    pub fn and(self, number: u64) -> Seed {
        Seed(mix(self.0.wrapping_add(STEP) ^ mix(number)))
    }

    /// This seed and a name (FNV-1a).
    pub fn and_name(self, name: &str) -> Seed {
        self.and(
            name.bytes()
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }

    /// The numbers.
    pub fn numbers(self) -> Numbers {
        Numbers(self.0)
    }
}

/// A sequence of numbers without an end.
pub struct Numbers(u64);

impl Numbers {
    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mix(self.0)
    }

    /// From 0 to below `bound`; 0 where that is 0. The multiplication favours none by more than `bound` in 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// From `min` to `max`, both included.
    pub fn between(&mut self, min: i64, max: i64) -> i64 {
        // As unsigned numbers their difference is right even where it does not fit in an i64.
        match (max.wrapping_sub(min) as u64).checked_add(1) {
            Some(count) => min.wrapping_add(self.below(count) as i64),
            None => self.bits() as i64,
        }
    }

    /// From 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        // The 53 bits that a double has.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// One of these, of which there must be some.
    pub fn one_of<'a, T>(&mut self, values: &'a [T]) -> &'a T {
        &values[self.below(values.len() as u64) as usize]
    }
}

fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // The first ones of the reference implementation with the state 1234567.
        let mut numbers = Numbers(1_234_567);
        let found: Vec<u64> = (0..3).map(|_| numbers.bits()).collect();
        assert_eq!(found, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn every_number_between_two_bounds_comes_and_no_other() {
        let mut numbers = Seed::default().numbers();
        for (min, max) in [(0, 0), (-3, 4), (i64::MAX - 3, i64::MAX), (i64::MIN, i64::MIN + 2)] {
            let found: std::collections::BTreeSet<i64> = (0..1000).map(|_| numbers.between(min, max)).collect();
            assert_eq!(found, (min..=max).collect());
        }
        assert!((0..100).map(|_| numbers.between(i64::MIN, i64::MAX)).any(|number| number < 0));
        assert!((0..1000).map(|_| numbers.fraction()).all(|fraction| (0.0..1.0).contains(&fraction)));
        assert_eq!(numbers.below(0), 0);
    }

    #[test]
    fn each_part_of_a_seed_counts_and_so_does_its_place() {
        let seed = Seed::default();
        let seeds = [
            seed,
            seed.and(0),
            seed.and(1),
            seed.and(0).and(1),
            seed.and(1).and(0),
            seed.and(0).and(0),
            seed.and_name("a"),
            seed.and_name("b"),
            seed.and_name("ab"),
        ];
        for (at, seed) in seeds.iter().enumerate() {
            assert!(!seeds[..at].contains(seed), "{at}");
        }
        assert_eq!(seed.and_name("a"), seed.and(0xaf63_dc4c_8601_ec8c), "FNV-1a of its authors");
    }
}
