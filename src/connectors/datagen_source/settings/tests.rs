use super::*;
use crate::connectors::datagen_source::content::{Content, Series, Whole};

fn props(settings: &[(&str, &str)]) -> Props {
    settings.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Of a configuration with one field `f` of these settings.
fn one_field(settings: &[(&str, &str)]) -> Props {
    let mut all = props(&[(TOPIC, "t"), (FIELDS, "f")]);
    all.extend(settings.iter().map(|(name, text)| (of_field("f", name), (*text).to_owned())));
    all
}

fn content(settings: &[(&str, &str)]) -> Content {
    let mut examined = examine(&one_field(settings));
    assert_eq!(examined.fields.len(), 1, "{settings:?}: {:?}", examined.values);
    examined.fields.remove(0).content
}

/// The names of the settings that are wrong, each with its errors.
fn wrong(props: &Props) -> Vec<(String, String)> {
    let wrong = validate(props).into_iter().filter(|value| !value.errors.is_empty());
    let wrong: Vec<_> = wrong.map(|value| (value.name, value.errors.join("; "))).collect();
    let plan = plan(props);
    assert_eq!(plan.is_err(), !wrong.is_empty(), "validation and start differ: {wrong:?}");
    if let Err(error) = plan {
        assert!(wrong.iter().all(|(_, why)| error.message().contains(why)), "{error}");
    }
    for (name, why) in &wrong {
        assert!(why.starts_with(&format!("{name}: ")), "{name} is not named first: {why}");
    }
    wrong
}

#[test]
fn each_type_has_its_settings_and_defaults() {
    let steps = |whole: Whole, start: i64, step: i64| Content::Whole(whole, Series::Steps { start, step });
    let between = |whole: Whole, min: i64, max: i64| Content::Whole(whole, Series::Between { min, max });
    let real = |single: bool, min: f64, max: f64, decimals: Option<u32>| Content::Real { single, min, max, decimals };
    let start = 1_767_225_600_000;
    for (settings, expected) in [
        (&[("type", "counter")][..], steps(Whole::Long, 0, 1)),
        (&[("type", " counter "), ("start", "-5"), ("step", "-2")], steps(Whole::Long, -5, -2)),
        (&[("type", "int")], between(Whole::Int, 0, 999)),
        (&[("type", "int"), ("min", "-2147483648"), ("max", "2147483647")], {
            between(Whole::Int, i32::MIN.into(), i32::MAX.into())
        }),
        (&[("type", "long")], between(Whole::Long, 0, 999_999_999)),
        (&[("type", "long"), ("min", "7"), ("max", "7")], between(Whole::Long, 7, 7)),
        (&[("type", "float")], real(true, 0.0, 1.0, None)),
        (&[("type", "double"), ("min", "-1e3"), ("max", "2.5"), ("decimals", "0")], {
            real(false, -1000.0, 2.5, Some(0))
        }),
        (&[("type", "boolean")], Content::Boolean),
        (&[("type", "task")], Content::Task),
        (&[("type", "uuid")], Content::Uuid),
        (&[("type", "word")], Content::Words(1)),
        (&[("type", "word"), ("length", "3")], Content::Words(3)),
        (&[("type", "string")], Content::Letters(10)),
        (&[("type", "string"), ("length", "10000")], Content::Letters(10_000)),
        (&[("type", "string"), ("pattern", "x-##")], Content::Pattern("x-##".into())),
        (&[("type", "choice"), ("values", "a, b c,a")], Content::Choice(vec!["a".into(), "b c".into(), "a".into()])),
        (&[("type", "timestamp")], steps(Whole::Timestamp, start, 1000)),
        (&[("type", "timestamp"), ("start", "1970-01-01T00:00:01Z"), ("step", "5")], steps(Whole::Timestamp, 1000, 5)),
        (&[("type", "timestamp"), ("min", "1970-01-01"), ("max", "2026-01-01")], between(Whole::Timestamp, 0, start)),
        (&[("type", "date")], steps(Whole::Date, 20_454, 1)),
        (&[("type", "date"), ("step", "-7")], steps(Whole::Date, 20_454, -7)),
        (&[("type", "date"), ("min", "1969-12-31"), ("max", "1970-01-02")], between(Whole::Date, -1, 1)),
    ] {
        assert_eq!(content(settings), expected, "{settings:?}");
        assert!(wrong(&one_field(settings)).is_empty());
    }
}

#[test]
fn a_wrong_setting_of_a_field_is_named_with_what_would_be_right() {
    let long = "x".repeat(10_001);
    let many = vec!["x"; 1001].join(",");
    for (settings, name, hint) in [
        (&[][..], "type", "one of boolean, choice, counter"),
        (&[("type", "decimal")], "type", "\"decimal\""),
        (&[("type", "Int")], "type", "one of"),
        (&[("type", "int"), ("min", "2"), ("max", "1")], "min", "max"),
        (&[("type", "int"), ("min", "1000")], "min", "999"),
        (&[("type", "int"), ("max", "2147483648")], "max", "32 bits"),
        (&[("type", "long"), ("min", "x")], "min", "\"x\""),
        (&[("type", "double"), ("min", "2")], "min", "max"),
        (&[("type", "double"), ("max", "Infinity")], "max", "to"),
        (&[("type", "double"), ("min", "NaN")], "min", "to"),
        (&[("type", "float"), ("max", "1e39")], "max", "to"),
        (&[("type", "double"), ("decimals", "16")], "decimals", "15"),
        (&[("type", "counter"), ("min", "1")], "min", "start, step, null.percent"),
        (&[("type", "counter"), ("step", "1.5")], "step", "integer"),
        (&[("type", "word"), ("length", "0")], "length", "from 1"),
        (&[("type", "string"), ("length", "10001")], "length", "10000"),
        (&[("type", "string"), ("pattern", "")], "pattern", "1 to 10000"),
        (&[("type", "string"), ("pattern", &long)], "pattern", "1 to 10000"),
        (&[("type", "string"), ("pattern", "#"), ("length", "1")], "length", "pattern"),
        (&[("type", "choice")], "values", "required"),
        (&[("type", "choice"), ("values", "")], "values", "0"),
        (&[("type", "choice"), ("values", "a,,b")], "values", "empty"),
        (&[("type", "choice"), ("values", &many)], "values", "1001"),
        (&[("type", "timestamp"), ("start", "yesterday")], "start", "2026-01-31T23:59:59Z"),
        (&[("type", "timestamp"), ("min", "2026-01-01")], "max", "missing"),
        (&[("type", "date"), ("max", "2026-01-01")], "min", "missing"),
        (&[("type", "date"), ("min", "2026-01-02"), ("max", "2026-01-01")], "min", "after"),
        (&[("type", "date"), ("min", "2026-01-01"), ("max", "2026-01-02"), ("step", "1")], "step", "either"),
        (&[("type", "date"), ("start", "2026-01-01T00:00:00Z")], "start", "a day"),
        (&[("type", "uuid"), ("null.percent", "101")], "null.percent", "100"),
        (&[("type", "uuid"), ("null.percent", "-1")], "null.percent", "from 0"),
    ] {
        let wrong = wrong(&one_field(settings));
        let [(found, why)] = wrong.as_slice() else { panic!("{settings:?}: {wrong:?}") };
        assert!(*found == of_field("f", name) && why.contains(hint), "{settings:?}: {found}: {why}");
    }
}

#[test]
fn a_wrong_configuration_is_told_by_the_names_of_its_settings() {
    let many: String = (0..101).map(|at| format!("f{at},")).collect::<String>() + "last";
    let long = "n".repeat(101);
    for (settings, expected) in [
        (&[][..], &[FIELDS][..]),
        (&[(FIELDS, "")], &[FIELDS]),
        (&[(FIELDS, "a,a")], &[FIELDS]),
        (&[(FIELDS, "a,,b")], &[FIELDS]),
        (&[(FIELDS, "a.b")], &[FIELDS]),
        (&[(FIELDS, "a b")], &[FIELDS]),
        (&[(FIELDS, &many)], &[FIELDS]),
        (&[(FIELDS, &long)], &[FIELDS]),
        (&[(TEMPLATE, "order")], &[TEMPLATE]),
        (&[(TEMPLATE, "orders"), (TOPIC, "")], &[TOPIC]),
        (&[(TEMPLATE, "orders"), (KEY_FIELD, "id")], &[KEY_FIELD]),
        (&[(TEMPLATE, "orders"), ("rate", "-1")], &["rate"]),
        (&[(TEMPLATE, "orders"), ("rate", "NaN")], &["rate"]),
        (&[(TEMPLATE, "orders"), ("rate", "Infinity")], &["rate"]),
        (&[(TEMPLATE, "orders"), ("count", "0")], &["count"]),
        (&[(TEMPLATE, "orders"), ("seed", "x")], &["seed"]),
        (&[(TEMPLATE, "orders"), ("batch.size", "0")], &["batch.size"]),
        (&[(TEMPLATE, "orders"), ("batch.size", "10001")], &["batch.size"]),
        (
            &[(TEMPLATE, "orders"), ("field.prize.min", "1"), ("field.price.min", "300")],
            &["field.prize.min", "field.price.min"],
        ),
        (&[(TEMPLATE, "orders"), ("field.price", "1"), ("field.", "x")], &["field.", "field.price"]),
        (&[(FIELDS, "a,b"), ("field.a.type", "int")], &["field.b.type"]),
    ] {
        let mut all = props(&[(TOPIC, "t")]);
        all.extend(props(settings));
        let wrong = wrong(&all);
        let names: Vec<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, expected, "{settings:?}: {wrong:?}");
    }
}

#[test]
fn values_without_errors_have_definitions() {
    let mut all = one_field(&[("type", "int"), ("max", "7")]);
    all.extend(props(&[("field.f.mox", "7")]));
    let definition = definition();
    for value in validate(&all) {
        assert_eq!(definition.key(&value.name).is_none(), value.name == "field.f.mox", "{value:?}");
        assert_eq!(value.errors.is_empty(), value.name != "field.f.mox", "{value:?}");
    }
}

#[test]
fn every_template_is_a_good_configuration() {
    for template in templates::names() {
        let props = props(&[(TOPIC, "t"), (TEMPLATE, template)]);
        assert_eq!(wrong(&props), [], "{template}");
        let plan = plan(&props).unwrap();
        let record = plan.recipe.record(0, 0).unwrap();
        assert!(!record.key.value.is_null(), "{template} has a key");
        assert_eq!((plan.rate, plan.count, plan.batch_size), (10.0, None, 500));
    }
}

#[test]
fn there_may_be_no_key_and_a_batch_has_a_bound_in_bytes() {
    let fields: Vec<String> = (0..MAX_FIELDS).map(|at| format!("f{at}")).collect();
    let mut large = props(&[(TOPIC, "t"), (FIELDS, &fields.join(",")), (KEY_FIELD, " ")]);
    for field in &fields {
        large.insert(of_field(field, TYPE), "string".into());
        large.insert(of_field(field, "length"), "10000".into());
    }
    let plan = plan(&large).unwrap();
    assert_eq!(plan.batch_size, 8);
    assert_eq!(plan.recipe.record(0, 0).unwrap().key, connect_api::SchemaAndValue::NULL);
}
