//! Floating point numbers as Java writes them.
//!
//! The text of a float is part of the identity of a record key (a source partition in the offset topic, a sharded
//! message key), so "as short as possible" is not enough: it must be the very text of `Double.toString` and
//! `Float.toString`. The JDK recorded is 17, whose algorithm (`jdk.internal.math.FloatingDecimal`) does not always
//! find the shortest text: 2e23 comes as 1.9999999999999998E23. JDK 19 changed it. This file follows JDK 17 step by
//! step, also where the steps overflow.

use num_bigint::BigUint;

/// Bits of a double's fraction without the hidden one.
const FRACTION_BITS: i32 = 52;
/// Exponents from which Java tries plain integer arithmetic.
const SMALL_BINARY_EXPONENTS: std::ops::RangeInclusive<i32> = -21..=62;
/// How many powers of five fit in a 64-bit integer.
const POWERS_OF_FIVE: usize = 27;

/// The text of `Double.toString` in JDK 17: `1.0`, `1.0E7`, `9.999E-4`, `-0.0`, `NaN`, `Infinity`.
pub fn java_double(number: f64) -> String {
    if let Some(text) = special_text(number) {
        return text.to_owned();
    }
    let bits = number.to_bits();
    let fraction = (bits & ((1 << FRACTION_BITS) - 1)) as i64;
    let exponent = ((bits >> FRACTION_BITS) & 0x7ff) as i32;
    let digits = if exponent == 0 {
        let leading = fraction.leading_zeros() as i32;
        let shift = leading - (63 - FRACTION_BITS);
        Digits::of(1 - shift - 1023, fraction << shift, 64 - leading)
    } else {
        Digits::of(exponent - 1023, fraction | 1 << FRACTION_BITS, FRACTION_BITS + 1)
    };
    digits.text(number.is_sign_negative())
}

/// The text of `Float.toString` in JDK 17.
pub fn java_float(number: f32) -> String {
    if let Some(text) = special_text(number.into()) {
        return text.to_owned();
    }
    const FLOAT_BITS: i32 = 23;
    let bits = number.to_bits();
    let fraction = (bits & ((1 << FLOAT_BITS) - 1)) as i32;
    let exponent = ((bits >> FLOAT_BITS) & 0xff) as i32;
    let (exponent, fraction, significant) = if exponent == 0 {
        let leading = fraction.leading_zeros() as i32;
        let shift = leading - (31 - FLOAT_BITS);
        (1 - shift, fraction << shift, 32 - leading)
    } else {
        (exponent, fraction | 1 << FLOAT_BITS, FLOAT_BITS + 1)
    };
    Digits::of(exponent - 127, i64::from(fraction) << (FRACTION_BITS - FLOAT_BITS), significant)
        .text(number.is_sign_negative())
}

fn special_text(number: f64) -> Option<&'static str> {
    if number.is_nan() {
        Some("NaN")
    } else if number.is_infinite() {
        Some(if number > 0.0 { "Infinity" } else { "-Infinity" })
    } else if number == 0.0 {
        Some(if number.is_sign_negative() { "-0.0" } else { "0.0" })
    } else {
        None
    }
}

/// Decimal digits without leading zeros, and where the point stands: `0.DIGITS * 10^exponent`.
struct Digits {
    digits: Vec<u8>,
    exponent: i32,
}

/// What the loop over the digits left behind: whether the text so far may be too low or too high by less than half a
/// unit, and how the rest compares with half of the last digit.
struct Stop {
    low: bool,
    high: bool,
    rest_against_half: std::cmp::Ordering,
}

/// How B, S and M of the digit loop are made of powers of two and five: the number is B / S * 10^exponent, and M is
/// half of the distance to its neighbours, scaled like B.
struct Scale {
    b2: i32,
    b5: i32,
    s2: i32,
    s5: i32,
    m2: i32,
}

impl Digits {
    /// `fraction` has the hidden bit at position 52, the number is `fraction * 2^(exponent - 52)`.
    fn of(exponent: i32, fraction: i64, significant_bits: i32) -> Digits {
        let trailing = fraction.trailing_zeros() as i32;
        let fraction_bits = FRACTION_BITS + 1 - trailing;
        let tiny_bits = (fraction_bits - exponent - 1).max(0);
        if tiny_bits == 0 && SMALL_BINARY_EXPONENTS.contains(&exponent) && fraction_bits < 64 {
            return Digits::of_integer(exponent, fraction, significant_bits);
        }
        let mut decimal_exponent = estimate_decimal_exponent(fraction, exponent);
        let fraction = fraction >> trailing;
        let scale = Scale::new(decimal_exponent, exponent, fraction_bits, tiny_bits, significant_bits);
        let bits_of_b = fraction_bits + scale.b2 + bits_of_power_of_five(scale.b5);
        let bits_of_ten_s = scale.s2 + 1 + bits_of_power_of_five(scale.s5 + 1);
        let mut digits = Vec::with_capacity(20);
        let stop = if bits_of_b < 32 && bits_of_ten_s < 32 {
            digits_by_int(fraction, &scale, &mut decimal_exponent, &mut digits)
        } else if bits_of_b < 64 && bits_of_ten_s < 64 {
            digits_by_long(fraction, &scale, &mut decimal_exponent, &mut digits)
        } else {
            digits_by_big_integer(fraction, &scale, &mut decimal_exponent, &mut digits)
        };
        let mut found = Digits { digits, exponent: decimal_exponent + 1 };
        found.round(&stop);
        found
    }

    fn of_integer(exponent: i32, fraction: i64, significant_bits: i32) -> Digits {
        // Digits below half of the distance to the next number say nothing and become zeros.
        let insignificant = match exponent - significant_bits - 1 {
            bits if exponent > significant_bits && bits > 1 => (f64::from(bits) * std::f64::consts::LOG10_2) as u32,
            _ => 0,
        };
        let mut value = if exponent >= FRACTION_BITS {
            fraction << (exponent - FRACTION_BITS)
        } else {
            fraction >> (FRACTION_BITS - exponent)
        };
        let mut decimal_exponent = 0;
        if insignificant != 0 {
            let power = 10i64.pow(insignificant);
            let rest = value % power;
            value = value / power + i64::from(rest >= power >> 1);
            decimal_exponent = insignificant as i32;
        }
        while value % 10 == 0 {
            value /= 10;
            decimal_exponent += 1;
        }
        let digits = value.to_string().into_bytes();
        Digits { exponent: decimal_exponent + digits.len() as i32, digits }
    }

    fn round(&mut self, stop: &Stop) {
        let odd = self.digits.last().is_some_and(|digit| digit & 1 == 1);
        let up = stop.high
            && (!stop.low
                || match stop.rest_against_half {
                    std::cmp::Ordering::Equal => odd,
                    other => other.is_gt(),
                });
        if !up {
            return;
        }
        for digit in self.digits.iter_mut().rev() {
            if *digit != b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.digits[0] = b'1';
        self.exponent += 1;
    }

    fn text(&self, negative: bool) -> String {
        let mut text = String::with_capacity(26);
        if negative {
            text.push('-');
        }
        let digits = self.digits.iter().map(|&digit| char::from(digit));
        let count = self.digits.len();
        if (1..8).contains(&self.exponent) {
            let whole = self.exponent as usize;
            text.extend(digits.clone().take(whole));
            text.extend(std::iter::repeat_n('0', whole.saturating_sub(count)));
            text.push('.');
            text.extend(digits.skip(whole));
            if count <= whole {
                text.push('0');
            }
        } else if (-2..=0).contains(&self.exponent) {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', -self.exponent as usize));
            text.extend(digits);
        } else {
            text.extend(digits.clone().take(1));
            text.push('.');
            text.extend(digits.skip(1));
            if count == 1 {
                text.push('0');
            }
            text.push('E');
            text.push_str(&(self.exponent - 1).to_string());
        }
        text
    }
}

impl Scale {
    fn new(decimal_exponent: i32, exponent: i32, fraction_bits: i32, tiny_bits: i32, significant_bits: i32) -> Scale {
        let b5 = (-decimal_exponent).max(0);
        let mut b2 = b5 + tiny_bits + exponent;
        let s5 = decimal_exponent.max(0);
        let mut s2 = s5 + tiny_bits;
        let mut m2 = b2 - significant_bits;
        b2 -= fraction_bits - 1;
        let common = b2.min(s2);
        b2 -= common;
        s2 -= common;
        m2 -= common;
        if fraction_bits == 1 {
            // Below a power of two the next number is only half as far away.
            m2 -= 1;
        }
        if m2 < 0 {
            b2 -= m2;
            s2 -= m2;
            m2 = 0;
        }
        Scale { b2, b5, s2, s5, m2 }
    }
}

/// The exponent of the first digit, or one too high.
#[expect(
    clippy::approx_constant,
    reason = "the constants are those of the JDK: others would estimate other numbers one too high"
)]
fn estimate_decimal_exponent(fraction: i64, exponent: i32) -> i32 {
    let unit = f64::from_bits(1023 << FRACTION_BITS | (fraction as u64 & ((1 << FRACTION_BITS) - 1)));
    let estimate = (unit - 1.5) * 0.289529654 + 0.176091259 + f64::from(exponent) * 0.301029995663981;
    estimate.floor() as i32
}

fn bits_of_power_of_five(power: i32) -> i32 {
    match usize::try_from(power) {
        Ok(0) => 0,
        Ok(small) if small < POWERS_OF_FIVE => 64 - 5i64.pow(power as u32).leading_zeros() as i32,
        _ => power * 3,
    }
}

/// Texts with an exponent must have a digit behind the point, so the loop may not stop at the first one.
fn needs_second_digit(decimal_exponent: i32) -> bool {
    !(-3..8).contains(&decimal_exponent)
}

/// The digit loop of Java in `int` or `long` arithmetic, with the wrap-around that Java has.
macro_rules! digits_by_machine_integers {
    ($name:ident, $int:ty) => {
        fn $name(fraction: i64, scale: &Scale, decimal_exponent: &mut i32, digits: &mut Vec<u8>) -> Stop {
            const FIVE: $int = 5;
            let mut b = (fraction as $int).wrapping_mul(FIVE.pow(scale.b5 as u32)).wrapping_shl(scale.b2 as u32);
            let s = FIVE.pow(scale.s5 as u32).wrapping_shl(scale.s2 as u32);
            let mut m = FIVE.pow(scale.b5 as u32).wrapping_shl(scale.m2 as u32);
            let ten_s = s.wrapping_mul(10);
            let mut quotient = b / s;
            b = (b % s).wrapping_mul(10);
            m = m.wrapping_mul(10);
            let mut low = b < m;
            let mut high = b.wrapping_add(m) > ten_s;
            if quotient == 0 && !high {
                *decimal_exponent -= 1;
            } else {
                digits.push(b'0' + quotient as u8);
            }
            if needs_second_digit(*decimal_exponent) {
                low = false;
                high = false;
            }
            while !low && !high {
                quotient = b / s;
                b = (b % s).wrapping_mul(10);
                m = m.wrapping_mul(10);
                // An overflown M is greater than everything.
                low = m <= 0 || b < m;
                high = m <= 0 || b.wrapping_add(m) > ten_s;
                digits.push(b'0' + quotient as u8);
            }
            Stop { low, high, rest_against_half: b.wrapping_shl(1).wrapping_sub(ten_s).cmp(&0) }
        }
    };
}

digits_by_machine_integers!(digits_by_int, i32);
digits_by_machine_integers!(digits_by_long, i64);

fn digits_by_big_integer(fraction: i64, scale: &Scale, decimal_exponent: &mut i32, digits: &mut Vec<u8>) -> Stop {
    let power = |fives: i32, twos: i32| BigUint::from(5u8).pow(fives as u32) << twos;
    let s = power(scale.s5, scale.s2);
    let ten_s = &s * 10u8;
    let mut b = BigUint::from(fraction as u64) * power(scale.b5, scale.b2);
    let mut m = power(scale.b5 + 1, scale.m2 + 1);
    let step = |b: &mut BigUint| {
        let quotient = &*b / &s;
        *b = (&*b - &quotient * &s) * 10u8;
        // B < 10 S holds in every round, so the quotient is one digit.
        b'0' + u8::try_from(quotient).unwrap_or(9)
    };
    let first = step(&mut b);
    let mut low = b < m;
    // Unlike the loop above this one also stops at equality, as Java does.
    let mut high = &b + &m >= ten_s;
    if first == b'0' && !high {
        *decimal_exponent -= 1;
    } else {
        digits.push(first);
    }
    if needs_second_digit(*decimal_exponent) {
        low = false;
        high = false;
    }
    while !low && !high {
        let digit = step(&mut b);
        m *= 10u8;
        low = b < m;
        high = &b + &m >= ten_s;
        digits.push(digit);
    }
    let twice: BigUint = b << 1u32;
    Stop { low, high, rest_against_half: twice.cmp(&ten_s) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_have_javas_text() {
        let cases: &[(f64, &str)] = &[
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9999999.0, "9999999.0"),
            (1e-3, "0.001"),
            (9.999e-4, "9.999E-4"),
            (1e-5, "1.0E-5"),
            (1.23456789125e8, "1.23456789125E8"),
            (1e300, "1.0E300"),
            (f64::from_bits(1), "4.9E-324"),
            (9223372036854775808.0, "9.223372036854776E18"),
            (f64::MAX, "1.7976931348623157E308"),
            (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
            (0.30000000000000004, "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333"),
            (123456.789, "123456.789"),
            (-0.0, "-0.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
            (1e22, "1.0E22"),
            // Texts that JDK 17 makes longer than needed (JDK-4511638, repaired in 19).
            (1e23, "9.999999999999999E22"),
            (2e23, "1.9999999999999998E23"),
            (8.41e21, "8.409999999999999E21"),
            (7.3879e20, "7.387900000000001E20"),
            (1e-323, "1.0E-323"),
        ];
        for &(number, text) in cases {
            assert_eq!(java_double(number), text);
        }
    }

    #[test]
    fn floats_have_javas_text() {
        let cases: &[(f32, &str)] = &[
            (1.1, "1.1"),
            (16777216.0, "1.6777216E7"),
            (3.4e38, "3.4E38"),
            (f32::MAX, "3.4028235E38"),
            (f32::from_bits(1), "1.4E-45"),
            (0.3, "0.3"),
            (1e10, "1.0E10"),
            (-0.0, "-0.0"),
            (33554432.0, "3.3554432E7"),
        ];
        for &(number, text) in cases {
            assert_eq!(java_float(number), text);
        }
    }

    #[test]
    fn every_text_reads_back_as_the_same_number() {
        let mut state = 0x9e3779b97f4a7c15u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let double = f64::from_bits(state);
            if double.is_finite() {
                assert_eq!(java_double(double).parse(), Ok(double));
            }
            let float = f32::from_bits((state >> 32) as u32);
            if float.is_finite() {
                assert_eq!(java_float(float).parse(), Ok(float));
            }
        }
    }
}
