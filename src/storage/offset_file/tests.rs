use std::fs;

use connect_api::FieldMap;
use proptest::prelude::*;

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// Written by Java: `HashMap`s of other capacities and load factors, with nulls, with an array that stands in several places, and one by
/// the standalone worker.
const EMPTY: &[u8] = include_bytes!("../../../tests/golden/offset-files/empty.offsets");
const ODD: &[u8] = include_bytes!("../../../tests/golden/offset-files/odd.offsets");
const MANY: &[u8] = include_bytes!("../../../tests/golden/offset-files/many.offsets");
const WORKER: &[u8] = include_bytes!("../../../tests/golden/offset-files/java-worker.offsets");

fn decoded(file: &[u8]) -> Result<BTreeMap<Bytes, Bytes>, OffsetFileError> {
    decode(Path::new("x.offsets"), &Bytes::copy_from_slice(file))
}

fn text(entries: &BTreeMap<Bytes, Bytes>) -> Vec<(&str, &str)> {
    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).expect("offsets are text")
    }
    entries.iter().map(|(key, value)| (text(key), text(value))).collect()
}

fn partition(shard: i64) -> SourcePartition {
    Arc::new(FieldMap::new().with("shard", shard))
}

fn offset(position: i64) -> SourceOffset {
    Arc::new(FieldMap::new().with("n", position))
}

/// Opens a file that a store before had, whose thread may still be about to end.
async fn reopen(path: &Path) -> FileOffsetStore {
    let deadline = std::time::Instant::now() + LIMIT;
    loop {
        match FileOffsetStore::open(path) {
            Err(OffsetFileError::InUse { .. }) if std::time::Instant::now() < deadline => {
                tokio::task::yield_now().await
            }
            opened => return opened.expect("the file can be opened"),
        }
    }
}

#[test]
fn what_java_wrote_is_read() {
    assert!(decoded(EMPTY).unwrap().is_empty());
    assert!(decoded(b"").unwrap().is_empty());
    let odd = decoded(ODD).unwrap();
    let shared = r#"{"position":7}"#;
    let twice = r#"["c",{"n":4}]"#;
    assert_eq!(text(&odd), [(r#"["c",{"n":1}]"#, shared), (r#"["c",{"n":2}]"#, shared), (twice, twice)]);
    let many = decoded(MANY).unwrap();
    assert_eq!(many.len(), 40);
    assert_eq!(&many[r#"["many",{"shard":39}]"#.as_bytes()][..], br#"{"n":390}"#);
    let worker = decoded(WORKER).unwrap();
    let wanted = [(r#"["local-file-source",{"filename":"/tmp/sa/in.txt"}]"#, r#"{"position":14}"#)];
    assert_eq!(text(&worker), wanted);
}

/// With one entry nothing is left open: order, capacity and handles are Java's.
#[test]
fn a_map_is_written_as_java_writes_it() {
    assert_eq!(java_map::encode(decoded(WORKER).unwrap().iter()), WORKER);
}

#[test]
fn a_file_that_is_cut_off_is_broken() {
    for file in [EMPTY, ODD, MANY, WORKER] {
        for length in 1..file.len() {
            let error = decoded(&file[..length]).expect_err("it is cut off");
            assert!(matches!(&error, OffsetFileError::Broken { error, .. } if error.at <= length), "{length}: {error}");
            assert!(error.to_string().contains("x.offsets"), "{error}");
        }
        assert!(decoded(&[file, b"x"].concat()).is_err());
    }
}

/// No changed bit makes it panic or use memory that the file does not justify; one outside of keys and values is noticed.
#[test]
fn a_changed_bit_is_noticed_or_changes_one_text() {
    let good = decoded(ODD).unwrap();
    for bit in 0..ODD.len() * 8 {
        let mut file = ODD.to_vec();
        file[bit / 8] ^= 1 << (bit % 8);
        let Ok(entries) = decoded(&file) else { continue };
        let same = entries.iter().filter(|(key, value)| good.get(*key) == Some(value)).count();
        assert!(same >= 1 && entries.len() <= good.len() + 1, "bit {bit}: {entries:?}");
    }
}

#[test]
fn references_cannot_be_used_to_ask_for_much_memory() {
    let mut file = MANY.to_vec();
    let size = file.windows(2).position(|window| window == [0x77, 8]).expect("there is a size") + 6;
    let claimed = 1_000_000_u32;
    file[size..size + 4].copy_from_slice(&claimed.to_be_bytes());
    file.truncate(file.len() - 1);
    // Handle 3 is the first key.
    let reference = [0x71, 0, 0x7e, 0, 3];
    file.extend(reference.repeat(2 * (claimed as usize - 40)));
    file.push(0x78);
    assert!(java_map::decode(&file.clone().into(), usize::MAX).is_ok());
    let error = java_map::decode(&file.into(), 1 << 20).unwrap_err();
    assert!(error.reason.contains("longer together"), "{error}");
}

proptest! {
    #[test]
    fn what_is_written_is_read(entries: BTreeMap<Vec<u8>, Vec<u8>>) {
        let entries: BTreeMap<Bytes, Bytes> =
            entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        prop_assert_eq!(decoded(&java_map::encode(entries.iter())).unwrap(), entries);
    }

    #[test]
    fn nothing_makes_it_panic(mut file: Vec<u8>, at: usize, cut: usize) {
        // Behind a good beginning, where more of it is reached.
        let begin = at % ODD.len();
        file.truncate(64);
        let mixed = [&ODD[..begin], &file, &ODD[(begin + cut % 8).min(ODD.len())..]].concat();
        drop(decoded(&mixed));
        drop(decoded(&file));
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    let store = FileOffsetStore::open(&path).unwrap();
    let entries = [(partition(0), Some(offset(5))), (partition(1), Some(offset(6)))];
    store.write("c", &entries, LIMIT).await.unwrap();
    store.write("c", &[(partition(1), None)], LIMIT).await.unwrap();
    assert_eq!(store.read("c", &[partition(1), partition(0)]).await.unwrap(), [None, Some(offset(5))]);
    drop(store);
    assert_eq!(text(&decoded(&fs::read(&path).unwrap()).unwrap()), [(r#"["c",{"shard":0}]"#, r#"{"n":5}"#)]);
    let store = reopen(&path).await;
    assert_eq!(store.all("c").await.unwrap(), [(partition(0), offset(5))]);
    assert!(store.all("d").await.unwrap().is_empty());
}

#[tokio::test]
async fn many_who_write_at_once_are_all_stored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    let store = FileOffsetStore::open(&path).unwrap();
    let write =
        async |shard: i64| store.write(&format!("c{shard}"), &[(partition(shard), Some(offset(1)))], LIMIT).await;
    futures_util::future::try_join_all((0..200).map(write)).await.unwrap();
    assert_eq!(decoded(&fs::read(&path).unwrap()).unwrap().len(), 200);
}

#[tokio::test]
async fn one_process_has_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    let store = FileOffsetStore::open(&path).unwrap();
    let error = FileOffsetStore::open(&path).err().expect("it is in use");
    let process = std::process::id().to_string();
    assert!(matches!(&error, OffsetFileError::InUse { process: found, .. } if *found == process), "{error}");
    assert!(error.to_string().contains("connect.offsets"), "{error}");
    drop(store);
    reopen(&path).await;
}

#[tokio::test]
async fn a_broken_file_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    fs::write(&path, &ODD[..ODD.len() / 2]).unwrap();
    let error = FileOffsetStore::open(&path).err().expect("it is broken");
    assert!(matches!(error, OffsetFileError::Broken { .. }) && !error.is_retriable(), "{error}");
    assert_eq!(fs::read(&path).unwrap(), &ODD[..ODD.len() / 2]);
    for (bad, word) in [(directory.path().to_owned(), "regular"), ("/no/such/directory/x".into(), "No such file")] {
        let error = FileOffsetStore::open(&bad).err().expect("it is no file");
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_write_that_fails_changes_nothing_and_may_be_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    let store = FileOffsetStore::open(&path).unwrap();
    store.write("c", &[(partition(0), Some(offset(1)))], LIMIT).await.unwrap();
    // What stands in the way of the new file, whoever runs the test: file permissions do not bind root.
    let obstacle = directory.path().join("connect.offsets.new");
    fs::create_dir(&obstacle).unwrap();
    let error = store.write("c", &[(partition(0), Some(offset(2)))], LIMIT).await.unwrap_err();
    assert!(error.is_retriable() && error.to_string().contains("connect.offsets"), "{error}");
    assert_eq!(store.read("c", &[partition(0)]).await.unwrap(), [Some(offset(1))]);
    fs::remove_dir(&obstacle).unwrap();
    store.write("c", &[(partition(0), Some(offset(3)))], LIMIT).await.unwrap();
    assert_eq!(text(&decoded(&fs::read(&path).unwrap()).unwrap()), [(r#"["c",{"shard":0}]"#, r#"{"n":3}"#)]);
}

#[tokio::test]
async fn a_link_stays_one_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let directory = tempfile::tempdir().unwrap();
    let (path, link) = (directory.path().join("there.offsets"), directory.path().join("link"));
    fs::write(&path, MANY).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    symlink(&path, &link).unwrap();
    let store = FileOffsetStore::open(&link).unwrap();
    store.write("many", &[(partition(39), None)], LIMIT).await.unwrap();
    assert!(link.is_symlink());
    assert_eq!(decoded(&fs::read(&path).unwrap()).unwrap().len(), 39);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test]
async fn what_is_no_offset_is_passed_over_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connect.offsets");
    let foreign = [(Bytes::from("x"), Bytes::from("y")), (Bytes::from(r#"["c",{"shard":1}]"#), Bytes::from("[7]"))];
    let foreign = BTreeMap::from(foreign);
    fs::write(&path, java_map::encode(foreign.iter())).unwrap();
    let store = FileOffsetStore::open(&path).unwrap();
    assert_eq!(store.read("c", &[partition(1)]).await.unwrap(), [None]);
    store.write("c", &[(partition(2), Some(offset(2)))], LIMIT).await.unwrap();
    let stored = decoded(&fs::read(&path).unwrap()).unwrap();
    assert!(foreign.iter().all(|(key, value)| stored.get(key) == Some(value)) && stored.len() == 3);
}
