//! A generator of our own (xorshift64*), so that a seed gives the same run everywhere.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

/// Draws one thing after the other.
pub struct Random(u64);

impl Random {
    /// Seeds that lie beside each other give runs that have nothing in common (splitmix64).
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Of nothing it would draw nothing else.
        Random((z ^ (z >> 31)).max(1))
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from((self.next() >> 16) % n as u64).unwrap()
    }

    /// A number from `least` to `most`, both included.
    pub fn within(&mut self, least: i64, most: i64) -> i64 {
        let count = i128::from(most) - i128::from(least) + 1;
        let number = i128::from(least) + i128::from(self.next()) % count.max(1);
        i64::try_from(number).unwrap()
    }

    /// True in so many of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// So many characters of these.
    pub fn text(&mut self, alphabet: &str, length: usize) -> String {
        let all: Vec<char> = alphabet.chars().collect();
        (0..length).map(|_| self.pick(&all)).collect()
    }

    /// The same things in another order.
    pub fn shuffled<T>(&mut self, mut all: Vec<T>) -> Vec<T> {
        for at in (1..all.len()).rev() {
            all.swap(at, self.below(at + 1));
        }
        all
    }
}

/// A number from the environment.
pub fn number(key: &str) -> Option<u64> {
    let text = std::env::var(key).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{key}={text} is no number")),
    )
}

/// `CELL_BROKER_SEED`; otherwise another one each time in the long form, and always the same in `make test`. Each test that uses it
/// tells it, so that what was found is found again.
pub fn seed() -> u64 {
    let drawn = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // Short enough to be typed.
        u64::from(now.unwrap().subsec_nanos())
    };
    let is_long = std::env::var_os("CELL_BROKER_ROWS").is_some();
    let seed = number("CELL_BROKER_SEED").unwrap_or_else(|| if is_long { drawn() } else { 0x5eed });
    println!("seed {seed}");
    seed
}
