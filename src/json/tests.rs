use bytes::Bytes;
use connect_api::{FieldMap, Value};

use super::*;

fn read(text: &str) -> Json {
    Json::read(&Bytes::copy_from_slice(text.as_bytes())).unwrap().unwrap()
}

fn fails(text: &str) -> bool {
    Json::read(&Bytes::copy_from_slice(text.as_bytes())).is_err()
}

fn written(json: &Json) -> String {
    String::from_utf8(json.to_bytes().unwrap().to_vec()).unwrap()
}

#[test]
fn reads_and_writes_the_same_bytes() {
    for text in
        ["null", "[]", "{}", r#"{"a":[1,-2,true,false,null,"x"],"b":{"c":1.50}}"#, "9223372036854775808", r#""/ü\n""#]
    {
        assert_eq!(written(&read(text)), text);
    }
    assert_eq!(written(&read(" [ 1 , { \"a\" : 2 } ] ")), r#"[1,{"a":2}]"#);
}

#[test]
fn is_as_lenient_as_kafka() {
    assert_eq!(read("01"), Json::Integer(1));
    assert_eq!(read("-007.50"), Json::Fraction("-7.50".into()));
    assert_eq!(read("00.5"), Json::Fraction("0.5".into()));
    assert_eq!(read("1 2"), Json::Integer(1));
    assert_eq!(read("{}x"), Json::Object(Object::new()));
    assert_eq!(read("\u{feff}{\"a\":1}"), Json::Object(Object::new().with("a", 1)));
    assert_eq!(written(&read(r#"{"a":1,"b":2,"a":3}"#)), r#"{"a":3,"b":2}"#);
    assert_eq!(Json::read(&Bytes::new()), Ok(None));
    assert_eq!(Json::read(&Bytes::from_static(b" \n")), Ok(None));
}

#[test]
fn refuses_what_is_no_json() {
    let cases = [
        "{",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'s'",
        "NaN",
        "+1",
        ".5",
        "1.",
        "1e",
        "tru",
        "truex",
        "1x",
        "// c\n1",
        "[1 2]",
        "{\"a\" 1}",
        "\"\u{1}\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"abc",
        "1e99999999999",
        "-",
        "[1}",
    ];
    for text in cases {
        assert!(fails(text), "{text}");
    }
    assert!(Json::read(&Bytes::from_static(b"\"\xff\"")).is_err());
    assert_eq!(
        Json::read(&Bytes::from_static(b"[1,x]")).unwrap_err().to_string(),
        "not JSON: no value begins like this at byte 4"
    );
}

#[test]
fn is_bounded() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert_eq!(written(&read(&nested(MAX_DEPTH))), nested(MAX_DEPTH));
    assert!(fails(&nested(MAX_DEPTH + 1)));
    assert!(fails(&"[".repeat(1_000_000)));
    assert!(!fails(&"1".repeat(MAX_NUMBER_CHARACTERS)));
    assert!(fails(&"1".repeat(MAX_NUMBER_CHARACTERS + 1)));
    assert!(fails(&format!("{{\"{}\":1}}", "n".repeat(MAX_NAME_BYTES + 1))));
    let deep = (0..=MAX_DEPTH).fold(Value::Null, |value, _| vec![value].into());
    assert_eq!(writer::write_value(&mut Vec::new(), &deep), Err(WriteError::TooDeep));
}

#[test]
fn numbers_become_javas_numbers() {
    assert_eq!(read("99999999999999999999").to_i64_wrapping(), 7766279631452241919);
    assert_eq!(read("-99999999999999999999").to_i64_wrapping(), -7766279631452241919);
    assert_eq!(read("-1.9").to_i64_wrapping(), -1);
    assert_eq!(read("1e20").to_i64_wrapping(), 7766279631452241920);
    assert_eq!(read("1e2147483640").to_i64_wrapping(), 0);
    assert_eq!(read("1e-2147483640").to_i64_wrapping(), 0);
    assert!(read("-0.0").to_f64().is_sign_positive());
    assert!(read("-1e-400").to_f64().is_sign_negative());
    assert_eq!(read("1e400").to_f64(), f64::INFINITY);
    assert_eq!(read("16777217").to_f32(), 16777216.0);
    assert_eq!(read("\"5\"").to_i64_wrapping(), 0);
    assert_eq!(
        read("[1,2.5,{\"a\":null}]").into_value(),
        Value::from(vec![Value::Int64(1), Value::Float64(2.5), vec![(Value::text("a"), Value::Null)].into(),])
    );
}

#[test]
fn escapes_are_read() {
    assert_eq!(read(r#""\"\\\/\b\f\n\r\té\ud83d\ude00""#), Json::from("\"\\/\u{8}\u{c}\n\r\té😀"));
    assert_eq!(read(r#""\ud83dx\ude00\ud83d\ud83d\ude00""#), Json::from("\u{fffd}x\u{fffd}\u{fffd}😀"));
}

#[test]
fn text_without_escapes_is_not_copied() {
    let bytes = Bytes::from_static(br#"{"name":"a value"}"#);
    let json = Json::read(&bytes).unwrap().unwrap();
    let text = json.as_object().unwrap().get("name").unwrap().as_str().unwrap();
    assert_eq!(text.as_ptr(), bytes[9..].as_ptr());
}

/// The bytes that the Java worker wrote for keys of the offset topic, where the class is one that is not lost here.
#[test]
fn keys_of_the_offset_topic_have_javas_bytes() {
    let key = |value: Value| {
        let mut out = b"[\"n\",".to_vec();
        writer::write_fields(&mut out, &FieldMap::new().with("k", value)).unwrap();
        out.push(b']');
        String::from_utf8(out).unwrap()
    };
    let cases: Vec<(Value, &str)> = vec![
        (
            "\0\u{1}\u{7}\u{8}\t\n\u{b}\u{c}\r\u{1b}\u{1f}\u{7f}\u{80}\u{9f}".into(),
            "\"\\u0000\\u0001\\u0007\\b\\t\\n\\u000B\\f\\r\\u001B\\u001F\u{7f}\u{80}\u{9f}\"",
        ),
        ("\"\\/'<>&".into(), "\"\\\"\\\\/'<>&\""),
        ("é\u{2028}\u{2029}\u{feff}\u{ffff}中".into(), "\"é\u{2028}\u{2029}\u{feff}\u{ffff}中\""),
        ("😀x".into(), "\"\\uD83D\\uDE00x\""),
        (Value::Int8(-5), "-5"),
        (Value::Int64(i64::MAX), "9223372036854775807"),
        (Value::Int64(i64::MIN), "-9223372036854775808"),
        (Value::Float32(1.1), "1.1"),
        (Value::Float32(16777216.0), "1.6777216E7"),
        (Value::Float64(1e-5), "1.0E-5"),
        (Value::Float64(-0.0), "-0.0"),
        (Value::Float64(f64::NAN), "\"NaN\""),
        (Value::Float64(f64::INFINITY), "\"Infinity\""),
        (Bytes::from_static(&[0, 1, 255, 62]).into(), "\"AAH/Pg==\""),
        (true.into(), "true"),
        (Value::Null, "null"),
        (vec![(Value::Int8(1), Value::text("x"))].into(), "[[1,\"x\"]]"),
    ];
    for (value, text) in cases {
        assert_eq!(key(value), format!("[\"n\",{{\"k\":{text}}}]"));
    }
}
