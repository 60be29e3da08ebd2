//! Fetches the jars that `tests/kafka/pom.xml` names, once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `target/kafka`, wherever Cargo's target directory is.
fn directory() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("target/tmp lies in target").join("kafka")
}

/// The directory with the jars. Fetches them where they are missing or `pom.xml` has changed since.
pub fn jars() -> Result<PathBuf, String> {
    let directory = directory();
    let lib = directory.join("lib");
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/pom.xml");
    let wanted = fs::read_to_string(&pom).map_err(|error| format!("cannot read {}: {error}", pom.display()))?;
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what} {}: {error}", directory.display());
    fs::create_dir_all(&lib).map_err(|error| failed("make", &error))?;
    // Several test binaries may come here at once.
    let lock = fs::File::create(directory.join("lock")).map_err(|error| failed("make the lock in", &error))?;
    lock.lock().map_err(|error| failed("lock", &error))?;
    let fetched = directory.join("fetched-pom.xml");
    if fs::read_to_string(&fetched).is_ok_and(|fetched| fetched == wanted) {
        return Ok(lib);
    }
    fs::remove_dir_all(&lib).map_err(|error| failed("empty", &error))?;
    eprintln!("fetching Kafka from Maven Central into {}, once", lib.display());
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", lib.display()))
        .output()
        .map_err(|error| format!("cannot run mvn: {error}. On Debian: apt install maven"))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(format!("mvn could not fetch Kafka ({}):\n{out}{err}", output.status));
    }
    fs::write(&fetched, wanted).map_err(|error| failed("write to", &error))?;
    Ok(lib)
}
