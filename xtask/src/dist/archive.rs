//! Archives that are the same bytes whenever they are made from the same files, and their checksums.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{BufWriter, Read, Write as _},
    path::Path,
};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Packs the files of `folder` under the name `inside` into `archive`: sorted, owned by nobody in particular,
/// dated `time` (seconds since 1970), and `executable` alone may be executed.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn pack(
    folder: &Path,
    inside: &str,
    executable: &str,
    archive: &Path,
    time: u64,
) -> Result<()> {
    let file =
        File::create(archive).with_context(|| format!("cannot make {}", archive.display()))?;
    let mut builder = Builder::new(GzEncoder::new(BufWriter::new(file), Compression::default()));
    let mut header = header(EntryType::Directory, 0o755, 0, time);
    builder.append_data(&mut header, format!("{inside}/"), std::io::empty())?;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name());
    }
    names.sort();
    for name in names {
        let content = File::open(folder.join(&name))?;
        let mode = if name == executable { 0o755 } else { 0o644 };
        let mut header = self::header(EntryType::Regular, mode, content.metadata()?.len(), time);
        builder.append_data(&mut header, Path::new(inside).join(&name), content)?;
    }
    builder.into_inner()?.finish()?.flush()?;
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: u64, time: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes `SHA256SUMS` beside the files of these names, as `sha256sum --check` takes it.
///
/// # Errors
/// When a file cannot be read or written.
pub(super) fn write_sums(folder: &Path, names: &[&str]) -> Result<()> {
    let mut sums = String::new();
    for name in names {
        writeln!(sums, "{}  {name}", sha256(&folder.join(name))?)?;
    }
    fs::write(folder.join("SHA256SUMS"), sums).context("SHA256SUMS")
}

/// The SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut part = vec![0; 64 * 1024];
    loop {
        let size = file.read(&mut part)?;
        let Some(read) = part.get(..size).filter(|read| !read.is_empty()) else {
            break;
        };
        hash.update(read);
    }
    let mut hex = String::new();
    for byte in hash.finalize() {
        write!(hex, "{byte:02x}")?;
    }
    Ok(hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_known_one() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "abc").unwrap();
        write_sums(folder.path(), &["a"]).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("SHA256SUMS")).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"
        );
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let out = tempfile::tempdir().unwrap();
        let mut archives = Vec::new();
        for order in [["a", "b"], ["b", "a"]] {
            let folder = tempfile::tempdir().unwrap();
            for name in order {
                fs::write(folder.path().join(name), name).unwrap();
            }
            let archive = out.path().join("x.tar.gz");
            pack(folder.path(), "x", "b", &archive, 1_000_000_000).unwrap();
            archives.push(fs::read(archive).unwrap());
        }
        assert!(archives[0] == archives[1]);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(archives[0].as_slice()));
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                let time = header.mtime().unwrap();
                (
                    entry.path().unwrap().display().to_string(),
                    header.mode().unwrap(),
                    time,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("x/".to_owned(), 0o755, 1_000_000_000),
                ("x/a".to_owned(), 0o644, 1_000_000_000),
                ("x/b".to_owned(), 0o755, 1_000_000_000),
            ]
        );
    }
}
