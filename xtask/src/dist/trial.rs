//! A trial of the packed binary: it runs where there is nothing, and needs nothing but the C library.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use duckfeeder_tests::process::{self, describe};

/// What every Linux with glibc has; what a name begins with, up to the version.
const SYSTEM: &[&str] = &[
    "linux-vdso.so",
    "ld-linux",
    "libc.so",
    "libm.so",
    "libgcc_s.so",
];

/// Runs the binary without an environment in an empty folder. It has to say its version, to refuse a
/// configuration that is empty, and to write the sample configuration, which stays at `sample`.
///
/// # Errors
/// When it does not, or needs a library that a system may lack.
pub(super) fn run(binary: &Path, version: &str, sample: &Path) -> Result<()> {
    let needed = process::run(Command::new("ldd").arg(binary))?;
    let foreign = foreign_libraries(&needed);
    ensure!(
        foreign.is_empty(),
        "the binary needs libraries that a system may lack: {}",
        foreign.join(", ")
    );
    let binary = binary.canonicalize()?;
    let empty = tempfile::tempdir()?;
    let told = expect(&binary, empty.path(), &["--version"], 0)?;
    ensure!(
        told.stdout == format!("duckfeeder {version}\n").as_bytes(),
        "--version says {}",
        String::from_utf8_lossy(&told.stdout)
    );
    let told = expect(&binary, empty.path(), &["config", "show"], 2)?;
    ensure!(
        told.stderr.starts_with(b"error: `source.url` is missing\n"),
        "without a configuration it says {}",
        String::from_utf8_lossy(&told.stderr)
    );
    // The store is filled in as an example; a source would be asked for its tables.
    let init = ["init", "--storage", "file:///srv/lake"];
    expect(&binary, empty.path(), &init, 0)?;
    std::fs::copy(empty.path().join("duckfeeder.toml"), sample)
        .context("the sample configuration")?;
    Ok(())
}

fn expect(binary: &Path, empty: &Path, arguments: &[&str], code: i32) -> Result<Output> {
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .current_dir(empty)
        .stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", describe(&command)))?;
    if output.status.code() != Some(code) {
        bail!(
            "{} ended with {}, not with code {code}\n{}",
            describe(&command),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// The libraries in the output of `ldd` that are not the system's own.
fn foreign_libraries(ldd: &str) -> Vec<&str> {
    ldd.lines()
        .filter_map(|line| line.split_whitespace().next())
        // A path for the loader, else a bare name.
        .filter_map(|library| library.rsplit('/').next())
        .filter(|library| *library != "statically")
        .filter(|library| !SYSTEM.iter().any(|system| library.starts_with(system)))
        .collect()
}

/// The C library that a binary needs, in words: the newest version that one of its symbols has.
pub(super) fn glibc(binary: &[u8]) -> String {
    const MARK: &[u8] = b"GLIBC_2.";
    let minor = binary
        .windows(MARK.len() + 2)
        .filter_map(|window| window.strip_prefix(MARK))
        .filter_map(|digits| {
            let digits: Vec<u8> = digits
                .iter()
                .copied()
                .take_while(u8::is_ascii_digit)
                .collect();
            String::from_utf8(digits).ok()?.parse::<u32>().ok()
        })
        .max();
    match minor {
        Some(minor) => format!("for glibc 2.{minor} and later"),
        None => "without glibc".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_libraries_are_named() {
        let ldd = "\tlinux-vdso.so.1 (0x1)\n\tlibssl.so.3 => /lib/libssl.so.3 (0x2)\n\tlibgcc_s.so.1 => /lib/x (0x3)\n\
                   \tlibz.so.1 => not found\n\tlibm.so.6 => /m (0x4)\n\tlibc.so.6 => /c (0x5)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x6)\n";
        assert_eq!(foreign_libraries(ldd), ["libssl.so.3", "libz.so.1"]);
        assert!(foreign_libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn the_newest_symbol_decides() {
        assert_eq!(
            glibc(b"..GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0.."),
            "for glibc 2.34 and later"
        );
        assert_eq!(glibc(b""), "without glibc");
    }
}
