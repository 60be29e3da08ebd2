//! What stands in a field of a record. Everything is a function of the seed of the record, its sequence and its task.

use connect_api::schema::logical;
use connect_api::{ByteString, SchemaBuilder, SchemaRef, SchemaType, Value};

use super::random::{Numbers, Seed};
use super::times;

/// The words of `word`.
const WORDS: [&str; 64] = [
    "amber", "anchor", "apple", "arrow", "basket", "beacon", "bridge", "bronze", "candle", "canyon", "cedar", "circle",
    "cloud", "copper", "coral", "cotton", "desert", "dragon", "eagle", "ember", "falcon", "feather", "forest",
    "garden", "glacier", "granite", "harbor", "hazel", "island", "ivory", "jasmine", "jungle", "kettle", "lantern",
    "lemon", "maple", "marble", "meadow", "mirror", "mountain", "nectar", "needle", "ocean", "olive", "orchid",
    "pebble", "pepper", "pillow", "planet", "quartz", "raven", "ribbon", "river", "saddle", "silver", "spruce",
    "stone", "sunset", "timber", "tunnel", "velvet", "violet", "walnut", "willow",
];
const LETTERS: &[u8; 26] = b"abcdefghijklmnopqrstuvwxyz";
const LETTERS_AND_DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
/// Of a pattern: becomes a digit.
pub const ANY_DIGIT: char = '#';
/// Of a pattern: becomes a lower-case letter.
pub const ANY_LETTER: char = '?';
/// A number, a date and all that is short count so much in [`Field::bytes`].
const SMALL_BYTES: usize = 32;
/// The longest word and a blank.
const WORD_BYTES: usize = 9;

/// A field of every record.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: ByteString,
    pub content: Content,
    /// So many of 100 are null.
    pub null_percent: u64,
}

/// What a value is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Whole(Whole, Series),
    /// From `min` to `max`; INT64's sisters FLOAT32, where it is `single`, and FLOAT64.
    Real {
        single: bool,
        min: f64,
        max: f64,
        decimals: Option<u32>,
    },
    Boolean,
    /// So many words.
    Words(usize),
    Choice(Vec<ByteString>),
    /// So many letters and digits.
    Letters(usize),
    Pattern(String),
    Uuid,
    /// The number of the task.
    Task,
}

/// The types that count in whole steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Whole {
    Int,
    Long,
    /// Milliseconds since 1970.
    Timestamp,
    /// Days since 1970.
    Date,
}

/// Which whole numbers come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Series {
    /// `start` and `step` more for each record.
    Steps { start: i64, step: i64 },
    /// Any between the two, both included.
    Between { min: i64, max: i64 },
}

impl Field {
    pub fn schema(&self) -> SchemaRef {
        let schema = match &self.content {
            Content::Whole(Whole::Int, _) | Content::Task => SchemaBuilder::new(SchemaType::Int32),
            Content::Whole(Whole::Long, _) => SchemaBuilder::new(SchemaType::Int64),
            Content::Whole(Whole::Timestamp, _) => logical::timestamp(),
            Content::Whole(Whole::Date, _) => logical::date(),
            Content::Real { single: true, .. } => SchemaBuilder::new(SchemaType::Float32),
            Content::Real { single: false, .. } => SchemaBuilder::new(SchemaType::Float64),
            Content::Boolean => SchemaBuilder::new(SchemaType::Boolean),
            Content::Words(_) | Content::Choice(_) | Content::Letters(_) | Content::Pattern(_) | Content::Uuid => {
                SchemaBuilder::new(SchemaType::String)
            }
        };
        if self.null_percent > 0 { schema.optional().build() } else { schema.build() }
    }

    /// Its value in a record. `seed` is that of the record and the field.
    pub fn value(&self, seed: Seed, task: i32, sequence: i64) -> Value {
        let mut numbers = seed.numbers();
        // Drawn in any case, so that other nulls leave the values as they are.
        if numbers.below(100) < self.null_percent { Value::Null } else { self.content.value(task, sequence, numbers) }
    }

    /// About how many bytes a value and its name take at most.
    pub fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Words(count) => count * WORD_BYTES,
            Content::Choice(values) => values.iter().map(|value| value.len()).max().unwrap_or(0),
            Content::Letters(count) => *count,
            Content::Pattern(pattern) => pattern.len(),
            _ => 0,
        };
        self.name.len() + content + SMALL_BYTES
    }
}

impl Content {
    fn value(&self, task: i32, sequence: i64, mut numbers: Numbers) -> Value {
        match self {
            Content::Whole(whole, series) => whole.value(series.at(sequence, whole.range(), &mut numbers)),
            Content::Real { single, min, max, decimals } => {
                let number = real(numbers.fraction(), *min, *max, *decimals);
                if *single { Value::Float32(number as f32) } else { Value::Float64(number) }
            }
            Content::Boolean => Value::Boolean(numbers.below(2) == 1),
            Content::Words(count) => {
                let words: Vec<&str> = (0..*count).map(|_| *numbers.one_of(&WORDS)).collect();
                Value::text(words.join(" "))
            }
            Content::Choice(values) => Value::String(numbers.one_of(values).clone()),
            Content::Letters(count) => {
                Value::text((0..*count).map(|_| char::from(*numbers.one_of(LETTERS_AND_DIGITS))).collect::<String>())
            }
            Content::Pattern(pattern) => {
                Value::text(pattern.chars().map(|c| fill(c, &mut numbers)).collect::<String>())
            }
            Content::Uuid => Value::text(uuid(numbers.bits(), numbers.bits())),
            Content::Task => Value::Int32(task),
        }
    }
}

impl Whole {
    /// The least and the greatest value.
    pub fn range(self) -> (i64, i64) {
        match self {
            Whole::Int => (i32::MIN.into(), i32::MAX.into()),
            Whole::Long => (i64::MIN, i64::MAX),
            Whole::Timestamp => times::MILLISECONDS,
            Whole::Date => times::DAYS,
        }
    }

    /// Of a number in the range, which for Int and Date is within 32 bits.
    fn value(self, number: i64) -> Value {
        match self {
            Whole::Int => Value::Int32(number as i32),
            Whole::Long => Value::Int64(number),
            Whole::Timestamp => Value::Timestamp(number),
            Whole::Date => Value::Date(number as i32),
        }
    }
}

impl Series {
    /// Steps that lead out of the range go on at its other end.
    fn at(self, sequence: i64, (least, greatest): (i64, i64), numbers: &mut Numbers) -> i64 {
        match self {
            Series::Between { min, max } => numbers.between(min, max),
            Series::Steps { start, step } => {
                let [start, step, sequence, least, greatest] = [start, step, sequence, least, greatest].map(i128::from);
                let number = start + step * sequence;
                let number = if (least..=greatest).contains(&number) {
                    number
                } else {
                    least + (number - least).rem_euclid(greatest - least + 1)
                };
                // Both ends of the range fit.
                number as i64
            }
        }
    }
}

fn real(fraction: f64, min: f64, max: f64, decimals: Option<u32>) -> f64 {
    // The difference of the two could be beyond all numbers.
    let number = min * (1.0 - fraction) + max * fraction;
    let number = match decimals {
        Some(decimals) => {
            // Exact up to 10^15; `powi` may differ from one machine to another.
            let scale = 10u64.pow(decimals) as f64;
            (number * scale).round() / scale
        }
        None => number,
    };
    number.clamp(min, max)
}

fn fill(c: char, numbers: &mut Numbers) -> char {
    match c {
        ANY_DIGIT => char::from(b'0' + numbers.below(10) as u8),
        ANY_LETTER => char::from(*numbers.one_of(LETTERS)),
        other => other,
    }
}

/// Of version 4, as if the bits were random.
fn uuid(high: u64, low: u64) -> String {
    let (time_low, time_mid, time_high) = (high >> 32, high >> 16 & 0xffff, high & 0xfff);
    let (clock, node) = (low >> 48 & 0x3fff | 0x8000, low & 0xffff_ffff_ffff);
    format!("{time_low:08x}-{time_mid:04x}-4{time_high:03x}-{clock:04x}-{node:012x}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn values(content: Content, sequences: std::ops::Range<i64>) -> Vec<Value> {
        let field = Field { name: "f".into(), content, null_percent: 0 };
        let schema = field.schema();
        let value = |sequence: i64| {
            let value = field.value(Seed::default().and(sequence as u64), 7, sequence);
            schema.validate(&value).unwrap();
            value
        };
        sequences.map(value).collect()
    }

    fn texts(content: Content) -> Vec<String> {
        values(content, 0..500).into_iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn steps_go_round_at_the_end_of_their_range() {
        let steps = |whole: Whole, start: i64, step: i64, from: i64| {
            values(Content::Whole(whole, Series::Steps { start, step }), from..from + 3)
        };
        assert_eq!(steps(Whole::Long, 5, -2, 0), [Value::Int64(5), Value::Int64(3), Value::Int64(1)]);
        let ends = [Value::Int64(i64::MAX), Value::Int64(i64::MIN), Value::Int64(i64::MIN + 1)];
        assert_eq!(steps(Whole::Long, i64::MAX - 10, 1, 10), ends);
        assert_eq!(steps(Whole::Date, 20_000, 1, 5)[0], Value::Date(20_005));
        let (first, last) = times::DAYS;
        assert_eq!(steps(Whole::Date, last, 1, 0)[1], Value::Date(first as i32));
        assert_eq!(steps(Whole::Date, first, -1, 0)[1], Value::Date(last as i32));
        assert_eq!(steps(Whole::Timestamp, 1000, 500, 2)[0], Value::Timestamp(2000));
        for extreme in steps(Whole::Timestamp, times::MILLISECONDS.1, i64::MIN, i64::MAX - 3) {
            let Value::Timestamp(ms) = extreme else { panic!("{extreme}") };
            assert!((times::MILLISECONDS.0..=times::MILLISECONDS.1).contains(&ms));
        }
    }

    #[test]
    fn numbers_between_two_bounds_reach_both_and_stay_within() {
        for whole in [Whole::Int, Whole::Long, Whole::Timestamp, Whole::Date] {
            let content = Content::Whole(whole, Series::Between { min: -2, max: 2 });
            let found: BTreeSet<String> = values(content, 0..500).iter().map(Value::to_string).collect();
            assert_eq!(found.len(), 5, "{whole:?}: {found:?}");
            let (min, max) = whole.range();
            values(Content::Whole(whole, Series::Between { min, max }), 0..500);
        }
        for single in [true, false] {
            for (min, max, decimals) in [
                (-1.5, 2.5, None),
                (-1.5, 2.5, Some(1)),
                (0.123, 0.126, Some(2)),
                (f64::from(f32::MIN), f64::from(f32::MAX), Some(15)),
                (3.0, 3.0, None),
            ] {
                for value in values(Content::Real { single, min, max, decimals }, 0..500) {
                    let number: f64 = match value {
                        Value::Float32(number) => number.into(),
                        Value::Float64(number) => number,
                        other => panic!("{other}"),
                    };
                    let error = if single { max.abs() * 1e-6 } else { 0.0 };
                    assert!(number >= min - error && number <= max + error, "{number} of {min} to {max}");
                }
            }
        }
        let cents = Content::Real { single: false, min: 0.0, max: 100.0, decimals: Some(2) };
        assert!(values(cents, 0..500).iter().all(|price| price.to_string().split('.').nth(1).unwrap().len() <= 2));
    }

    #[test]
    fn texts_have_their_form() {
        for text in texts(Content::Words(3)) {
            assert!(text.split(' ').all(|word| WORDS.contains(&word)) && text.split(' ').count() == 3, "{text}");
            assert!(text.len() < 3 * WORD_BYTES);
        }
        for text in texts(Content::Letters(12)) {
            assert!(text.len() == 12 && text.bytes().all(|byte| LETTERS_AND_DIGITS.contains(&byte)), "{text}");
        }
        for text in texts(Content::Pattern("ä-##?".into())) {
            let rest: Vec<char> = text.strip_prefix("ä-").unwrap().chars().collect();
            assert!(rest[0].is_ascii_digit() && rest[1].is_ascii_digit() && rest[2].is_ascii_lowercase(), "{text}");
        }
        let choice = Content::Choice(vec!["a".into(), "b".into()]);
        assert_eq!(texts(choice).into_iter().collect::<BTreeSet<_>>(), ["a".into(), "b".into()].into());
        let ids = texts(Content::Uuid);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
        for id in ids {
            let lengths: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
            assert!(id.as_bytes()[14] == b'4' && b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
        assert_eq!(uuid(u64::MAX, 0), "ffffffff-ffff-4fff-8000-000000000000");
        assert_eq!(values(Content::Task, 0..1), [Value::Int32(7)]);
        let both: BTreeSet<String> = values(Content::Boolean, 0..100).iter().map(Value::to_string).collect();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn so_many_percent_are_null_and_leave_the_others_as_they_are() {
        let field = |null_percent: u64| Field { name: "f".into(), content: Content::Letters(8), null_percent };
        let values = |null_percent: u64| -> Vec<Value> {
            let value = |at: i64| field(null_percent).value(Seed::default().and(at as u64), 0, at);
            (0..10_000).map(value).collect()
        };
        let (none, some) = (values(0), values(20));
        let nulls = some.iter().filter(|value| value.is_null()).count();
        assert!((1800..2200).contains(&nulls), "{nulls}");
        assert!(some.iter().zip(&none).all(|(some, none)| some.is_null() || some == none));
        assert!(!none.iter().any(Value::is_null) && values(100).iter().all(Value::is_null));
        assert!(field(1).schema().is_optional() && !field(0).schema().is_optional());
    }
}
