//! Which files are duckfeeder's own, by their names.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// When a file of duckfeeder's was named, by the clock of the feeder; `None` for a file of anybody else.
pub(super) fn made_at(path: &str) -> Option<SystemTime> {
    let id = of(path)
        .strip_prefix("duckfeeder-")?
        .strip_suffix(".parquet")?;
    let uuid = parse(id)?;
    if uuid.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// Whether it is the place of an upload to a local store.
pub(super) fn is_temporary(path: &str) -> bool {
    of(path)
        .strip_prefix('.')
        .and_then(|name| parse(name.strip_suffix(".tmp")?))
        .is_some()
}

/// The last segment of a path.
pub(super) fn of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Only the one spelling that is written.
fn parse(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    (uuid.hyphenated().to_string() == text).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::LakeTable;

    #[test]
    fn names_of_duckfeeder_say_when_they_were_made() {
        let before = SystemTime::now();
        let made = made_at(&format!("raw/t/{}", LakeTable::new_file_name())).unwrap();
        let after = SystemTime::now() + Duration::from_millis(1);
        // Milliseconds are all that the name holds.
        assert!(before - Duration::from_millis(2) <= made && made <= after);
    }

    #[test]
    fn everybody_elses_names_are_none() {
        let seven = Uuid::now_v7();
        for name in [
            format!("ducklake-{seven}.parquet"),
            format!("duckfeeder-{seven}-delete.parquet"),
            format!("duckfeeder-{}.parquet", Uuid::new_v4()),
            format!("duckfeeder-{}.parquet", seven.simple()),
            format!("duckfeeder-{}.parquet", seven.to_string().to_uppercase()),
            format!("duckfeeder-{seven}.parquet.bak"),
            format!("duckfeeder-{seven}"),
            format!("my-duckfeeder-{seven}.parquet"),
            format!("duckfeeder-{seven}.parquet/part"),
            "duckfeeder-.parquet".to_owned(),
            String::new(),
        ] {
            assert_eq!(made_at(&format!("raw/t/{name}")), None, "{name}");
        }
    }

    #[test]
    fn temporary_files_are_known_by_their_form() {
        let id = Uuid::new_v4();
        assert!(is_temporary(&format!("raw/t/.{id}.tmp")));
        for name in [
            format!("{id}.tmp"),
            format!(".{id}"),
            ".x.tmp".to_owned(),
            format!(".{}.tmp", id.simple()),
        ] {
            assert!(!is_temporary(&name), "{name}");
        }
    }
}
