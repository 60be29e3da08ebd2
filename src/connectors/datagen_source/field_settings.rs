//! The settings of one field, by its type.

use connect_api::{ConfigDef, ConfigKey, Importance, ParsedConfig, ParsedValue, Props, Type, Validator};

use super::content::{Content, Field, Series, Whole};
use super::settings::{TYPE, or_absent};
use super::times;

const MIN: &str = "min";
const MAX: &str = "max";
const START: &str = "start";
const STEP: &str = "step";
const DECIMALS: &str = "decimals";
const LENGTH: &str = "length";
const PATTERN: &str = "pattern";
const VALUES: &str = "values";
const NULL_PERCENT: &str = "null.percent";

/// The most values of a choice.
pub const MAX_VALUES: usize = 1000;
/// The most words of a `word`.
pub const MAX_WORDS: i32 = 1000;
/// The most characters of a `string`.
pub const MAX_CHARS: i32 = 10_000;
/// A double has about so many digits.
const MAX_DECIMALS: i32 = 15;

const DEFAULT_MAX_INT: i32 = 999;
const DEFAULT_MAX_LONG: i32 = 999_999_999;
const DEFAULT_WORDS: i32 = 1;
const DEFAULT_CHARS: i32 = 10;
/// 2026-01-01, in days since 1970 and in milliseconds.
const DEFAULT_START: (i64, i64) = (20_454, 20_454 * 86_400_000);
/// A day, and a second in milliseconds.
const DEFAULT_STEP: (i64, i64) = (1, 1000);

/// What is wrong with a setting of a field.
#[derive(Debug, PartialEq)]
pub struct Wrong {
    /// Its name behind that of the field.
    pub setting: String,
    pub why: String,
}

impl Wrong {
    fn new(setting: &str, why: impl Into<String>) -> Wrong {
        Wrong { setting: setting.to_owned(), why: why.into() }
    }
}

/// What a field may be.
#[derive(Debug, Clone, Copy, PartialEq)]
enum FieldType {
    Boolean,
    Choice,
    Counter,
    Date,
    Double,
    Float,
    Int,
    Long,
    String,
    Task,
    Timestamp,
    Uuid,
    Word,
}

const TYPES: [(&str, FieldType); 13] = [
    ("boolean", FieldType::Boolean),
    ("choice", FieldType::Choice),
    ("counter", FieldType::Counter),
    ("date", FieldType::Date),
    ("double", FieldType::Double),
    ("float", FieldType::Float),
    ("int", FieldType::Int),
    ("long", FieldType::Long),
    ("string", FieldType::String),
    ("task", FieldType::Task),
    ("timestamp", FieldType::Timestamp),
    ("uuid", FieldType::Uuid),
    ("word", FieldType::Word),
];

/// The field that settings describe; their names are those behind `field.NAME.`.
pub fn field(name: &str, settings: &Props) -> Result<Field, Vec<Wrong>> {
    let known = || TYPES.map(|(name, _)| name).join(", ");
    let Some(wanted) = settings.get(TYPE).map(|wanted| wanted.trim()) else {
        return Err(vec![Wrong::new(TYPE, format!("it is missing; the type of a field is one of {}", known()))]);
    };
    let Some((type_name, field_type)) = TYPES.iter().find(|(name, _)| *name == wanted) else {
        return Err(vec![Wrong::new(TYPE, format!("the value must be one of {}, but is {wanted:?}", known()))]);
    };
    let definition = field_type.definition();
    let mut wrong: Vec<Wrong> = unknown(type_name, &definition, settings);
    for value in definition.validate(settings) {
        let plain = |error: &String| error.strip_prefix(&format!("{}: ", value.name)).unwrap_or(error).to_owned();
        wrong.extend(value.errors.iter().map(|error| Wrong::new(&value.name, plain(error))));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let config = definition.parse(settings).map_err(|error| vec![Wrong::new(TYPE, error.message())])?;
    let content = field_type.content(&config).map_err(|wrong| vec![wrong])?;
    let null_percent = u64::try_from(config.int(NULL_PERCENT)).unwrap_or(0);
    Ok(Field { name: name.into(), content, null_percent })
}

/// Settings that the type does not have.
fn unknown(type_name: &str, definition: &ConfigDef, settings: &Props) -> Vec<Wrong> {
    let names: Vec<&str> = definition.keys().iter().map(|key| key.name.as_str()).collect();
    let complaint = |setting: &String| {
        Wrong::new(setting, format!("a field of type {type_name} has no such setting; it has {}", names.join(", ")))
    };
    settings.keys().filter(|setting| *setting != TYPE && !names.contains(&setting.as_str())).map(complaint).collect()
}

impl FieldType {
    fn definition(self) -> ConfigDef {
        let definition = match self {
            FieldType::Boolean | FieldType::Task | FieldType::Uuid => ConfigDef::new(),
            FieldType::Choice => ConfigDef::new().define(key(VALUES, Type::List).validator(choices())),
            FieldType::Counter => ConfigDef::new()
                .define(key(START, Type::Long).default_value(0))
                .define(key(STEP, Type::Long).default_value(1)),
            FieldType::Date => moments("a day such as 2026-01-31, in the years 1600 to 9999", times::day),
            FieldType::Timestamp => moments(
                "a time such as 2026-01-31T23:59:59Z or 2026-01-31, in the years 1600 to 9999",
                times::millisecond,
            ),
            FieldType::Double => reals(f64::MAX),
            FieldType::Float => reals(f32::MAX.into()),
            FieldType::Int => bounds(Type::Int, DEFAULT_MAX_INT),
            FieldType::Long => bounds(Type::Long, DEFAULT_MAX_LONG),
            FieldType::String => {
                let not_too_long = |text: &str| !text.is_empty() && text.chars().count() <= MAX_CHARS as usize;
                let wanted = format!("text of 1 to {MAX_CHARS} characters");
                ConfigDef::new()
                    .define(key(LENGTH, Type::Int).optional().validator(or_absent(Validator::between(1, MAX_CHARS))))
                    .define(key(PATTERN, Type::String).optional().validator(Validator::text(&wanted, not_too_long)))
            }
            FieldType::Word => ConfigDef::new().define(
                key(LENGTH, Type::Int).default_value(DEFAULT_WORDS).validator(Validator::between(1, MAX_WORDS)),
            ),
        };
        definition.define(key(NULL_PERCENT, Type::Int).default_value(0).validator(Validator::between(0, 100)))
    }

    fn content(self, config: &ParsedConfig) -> Result<Content, Wrong> {
        Ok(match self {
            FieldType::Boolean => Content::Boolean,
            FieldType::Task => Content::Task,
            FieldType::Uuid => Content::Uuid,
            FieldType::Choice => {
                Content::Choice(config.list(VALUES).iter().map(|value| value.as_str().into()).collect())
            }
            FieldType::Counter => {
                Content::Whole(Whole::Long, Series::Steps { start: config.long(START), step: config.long(STEP) })
            }
            FieldType::Date => {
                Content::Whole(Whole::Date, series(config, times::day, DEFAULT_START.0, DEFAULT_STEP.0)?)
            }
            FieldType::Timestamp => {
                Content::Whole(Whole::Timestamp, series(config, times::millisecond, DEFAULT_START.1, DEFAULT_STEP.1)?)
            }
            FieldType::Double | FieldType::Float => Content::Real {
                single: self == FieldType::Float,
                min: config.double(MIN),
                max: ordered(config.double(MIN), config.double(MAX))?,
                decimals: config.opt_int(DECIMALS).and_then(|decimals| u32::try_from(decimals).ok()),
            },
            FieldType::Int => {
                let (min, max) = (config.int(MIN).into(), config.int(MAX).into());
                Content::Whole(Whole::Int, Series::Between { min, max: ordered(min, max)? })
            }
            FieldType::Long => {
                let (min, max) = (config.long(MIN), config.long(MAX));
                Content::Whole(Whole::Long, Series::Between { min, max: ordered(min, max)? })
            }
            FieldType::String => match (config.opt_int(LENGTH), config.opt_string(PATTERN)) {
                (Some(_), Some(_)) => return Err(Wrong::new(LENGTH, format!("the {PATTERN} has a length of its own"))),
                (None, Some(pattern)) => Content::Pattern(pattern.to_owned()),
                (length, None) => Content::Letters(size(length.unwrap_or(DEFAULT_CHARS))),
            },
            FieldType::Word => Content::Words(size(config.int(LENGTH))),
        })
    }
}

/// These definitions are for checks alone, and shown nowhere: the documentation is that of the connector.
fn key(name: &str, setting_type: Type) -> ConfigKey {
    ConfigKey::new(name, setting_type, Importance::Medium, "")
}

fn choices() -> Validator {
    let wanted = format!("a list of 1 to {MAX_VALUES} values that are not empty");
    Validator::new(wanted.clone(), move |_, value| {
        let Some(ParsedValue::List(values)) = value else { return Ok(()) };
        if values.iter().any(String::is_empty) {
            return Err(format!("the value must be {wanted}, but has an empty one"));
        }
        match values.len() {
            1..=MAX_VALUES => Ok(()),
            count => Err(format!("the value must be {wanted}, but has {count}")),
        }
    })
}

fn bounds(setting_type: Type, max: i32) -> ConfigDef {
    ConfigDef::new().define(key(MIN, setting_type).default_value(0)).define(key(MAX, setting_type).default_value(max))
}

fn reals(greatest: f64) -> ConfigDef {
    let bound = |name: &str, default: i32| {
        key(name, Type::Double).default_value(default).validator(Validator::between(-greatest, greatest))
    };
    ConfigDef::new()
        .define(bound(MIN, 0))
        .define(bound(MAX, 1))
        .define(key(DECIMALS, Type::Int).optional().validator(or_absent(Validator::between(0, MAX_DECIMALS))))
}

/// Of a type whose bounds and whose start are such a moment; all may be missing.
fn moments(wanted: &str, parse: fn(&str) -> Option<i64>) -> ConfigDef {
    let moment = |name: &str| {
        key(name, Type::String).optional().validator(Validator::text(wanted, move |text| parse(text).is_some()))
    };
    ConfigDef::new()
        .define(moment(START))
        .define(key(STEP, Type::Long).optional())
        .define(moment(MIN))
        .define(moment(MAX))
}

/// Any moment between `min` and `max`, where they are set; else steps.
fn series(config: &ParsedConfig, parse: fn(&str) -> Option<i64>, start: i64, step: i64) -> Result<Series, Wrong> {
    let moment = |name: &str| config.opt_string(name).and_then(parse);
    let needs = |there: &str, missing: &str| Wrong::new(missing, format!("it is missing, but {there} is there"));
    match (moment(MIN), moment(MAX)) {
        (None, None) => {
            Ok(Series::Steps { start: moment(START).unwrap_or(start), step: config.opt_long(STEP).unwrap_or(step) })
        }
        (Some(_), None) => Err(needs(MIN, MAX)),
        (None, Some(_)) => Err(needs(MAX, MIN)),
        (Some(min), Some(max)) => {
            if let Some(name) = [START, STEP].into_iter().find(|name| config.get(name).is_some()) {
                let why = format!("a field has either {START} and {STEP} or {MIN} and {MAX}");
                return Err(Wrong::new(name, why));
            }
            match config.opt_string(MIN) {
                Some(text) if min > max => Err(Wrong::new(MIN, format!("{text} is after {MAX}"))),
                _ => Ok(Series::Between { min, max }),
            }
        }
    }
}

/// `max`, if it is not below `min`.
fn ordered<T: PartialOrd + std::fmt::Display>(min: T, max: T) -> Result<T, Wrong> {
    if min > max { Err(Wrong::new(MIN, format!("{min} is more than {MAX}, which is {max}"))) } else { Ok(max) }
}

/// Of a number that was checked to be positive.
fn size(number: i32) -> usize {
    usize::try_from(number).unwrap_or(1)
}
