//! Checks of single settings. Each says what a good value is: that text stands in its errors.

use std::fmt;
use std::sync::Arc;

use super::ParsedValue;

type Check = dyn Fn(&str, Option<&ParsedValue>) -> Result<(), String> + Send + Sync;

/// A check of one setting (Java: `ConfigDef.Validator`). It sees an absent value, and one that could not be parsed, as
/// `None`.
#[derive(Clone)]
pub struct Validator {
    description: Arc<str>,
    check: Arc<Check>,
}

impl Validator {
    /// A check of your own. `description` completes the sentence "the value must be ..."; the closure gets the name
    /// of the setting and its value and returns what is wrong.
    pub fn new(
        description: impl Into<Arc<str>>,
        check: impl Fn(&str, Option<&ParsedValue>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Validator { description: description.into(), check: Arc::new(check) }
    }

    /// A check of your own for texts, classes and secrets: absent values pass, others must fulfil the predicate.
    pub fn text(description: &str, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let wanted = description.to_owned();
        Validator::new(description, move |_, value| {
            let (text, shown) = match value {
                Some(ParsedValue::String(text) | ParsedValue::Class(text)) => (text.as_str(), format!("{text:?}")),
                Some(ParsedValue::Password(secret)) => (secret.value(), secret.to_string()),
                _ => return Ok(()),
            };
            if good(text) { Ok(()) } else { Err(format!("the value must be {wanted}, but is {shown}")) }
        })
    }

    /// A number from `min` on (Java: `Range.atLeast`). An absent value is an error.
    pub fn at_least(min: impl Into<f64>) -> Self {
        let min = min.into();
        Self::range(format!("a number from {min} on"), move |number| number >= min)
    }

    /// A number from `min` to `max`, both included (Java: `Range.between`). An absent value is an error.
    pub fn between(min: impl Into<f64>, max: impl Into<f64>) -> Self {
        let (min, max) = (min.into(), max.into());
        Self::range(format!("a number from {min} to {max}"), move |number| number >= min && number <= max)
    }

    fn range(wanted: String, good: impl Fn(f64) -> bool + Send + Sync + 'static) -> Self {
        Validator::new(wanted.clone(), move |_, value| {
            let number = match value {
                Some(ParsedValue::Int(number)) => f64::from(*number),
                Some(ParsedValue::Short(number)) => f64::from(*number),
                // Rounds beyond 2^53, as Java does when it compares a long with another type of number.
                Some(ParsedValue::Long(number)) => *number as f64,
                Some(ParsedValue::Double(number)) => *number,
                _ => return Err(format!("there must be a value: {wanted}")),
            };
            if good(number) { Ok(()) } else { Err(format!("the value must be {wanted}, but is {number}")) }
        })
    }

    /// One of these texts (Java: `ValidString`). An absent value is an error.
    pub fn one_of(texts: &[&str]) -> Self {
        Self::words(texts, "one of", |text, word| text == word, false)
    }

    /// One of these texts or absent.
    pub fn one_of_or_absent(texts: &[&str]) -> Self {
        Self::words(texts, "one of", |text, word| text == word, true)
    }

    /// One of these texts in any letter case (Java: `CaseInsensitiveValidString`). An absent value is an error.
    pub fn one_of_ignoring_case(texts: &[&str]) -> Self {
        Self::words(texts, "one of, in any letter case,", |text, word| text.eq_ignore_ascii_case(word), false)
    }

    fn words(texts: &[&str], which: &str, equal: fn(&str, &str) -> bool, absent: bool) -> Self {
        let words: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let wanted = format!("{which} {}", words.join(", "));
        Validator::new(wanted.clone(), move |_, value| match value {
            Some(ParsedValue::String(text)) if words.iter().any(|word| equal(text, word)) => Ok(()),
            Some(ParsedValue::String(text)) => Err(format!("the value must be {wanted}, but is {text:?}")),
            _ if absent => Ok(()),
            _ => Err(format!("there must be a value: {wanted}")),
        })
    }

    /// Text that is not empty, or absent (Java: `NonEmptyString`).
    pub fn non_empty() -> Self {
        Self::text("text that is not empty", |text| !text.is_empty())
    }

    /// Text that is not empty and has no control characters, or absent (Java:
    /// `NonEmptyStringWithoutControlChars`).
    pub fn non_empty_without_control_chars() -> Self {
        // Java's ISO control characters are exactly Unicode's category Cc.
        Self::text("text that is not empty and has no control characters", |text| {
            !text.is_empty() && !text.contains(char::is_control)
        })
    }

    /// A list without empty and without repeated elements, or absent (Java: `ValidList.anyNonDuplicateValues`).
    pub fn list() -> Self {
        Self::elements("a list without empty or repeated elements", true, |_| true)
    }

    /// The same with at least one element.
    pub fn non_empty_list() -> Self {
        Self::elements("a list of at least one element, without empty or repeated ones", false, |_| true)
    }

    /// A list of some of these texts, without repetitions (Java: `ValidList.in`); it may be empty.
    pub fn list_of(texts: &[&str]) -> Self {
        let words: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        let wanted = format!("a list of some of {}, each at most once", words.join(", "));
        Self::elements(&wanted, true, move |element| words.iter().any(|word| word == element))
    }

    fn elements(wanted: &str, may_be_empty: bool, good: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let wanted_owned = wanted.to_owned();
        Validator::new(wanted, move |_, value| {
            let Some(ParsedValue::List(elements)) = value else { return Ok(()) };
            let repeated = |(i, element): (usize, &String)| elements[..i].contains(element);
            let wrong = if elements.is_empty() && !may_be_empty {
                "is empty".to_owned()
            } else if elements.iter().any(String::is_empty) {
                "has an empty element".to_owned()
            } else if let Some((_, element)) = elements.iter().enumerate().find(|&indexed| repeated(indexed)) {
                format!("has {element:?} more than once")
            } else if let Some(element) = elements.iter().find(|element| !good(element)) {
                format!("has the element {element:?}")
            } else {
                return Ok(());
            };
            Err(format!("the value must be {wanted_owned}, but {wrong}"))
        })
    }

    /// Both checks; the first error counts (Java: `CompositeValidator`).
    pub fn and(self, other: Validator) -> Self {
        let description = format!("{self} and {other}");
        Validator::new(description, move |name, value| {
            self.ensure_valid(name, value)?;
            other.ensure_valid(name, value)
        })
    }

    /// What is wrong with the value of the setting `name`.
    pub fn ensure_valid(&self, name: &str, value: Option<&ParsedValue>) -> Result<(), String> {
        (self.check)(name, value)
    }
}

/// What a good value is.
impl fmt::Display for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.description)
    }
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Validator({})", self.description)
    }
}
