//! What a user of one layer does not have to build.
#![allow(clippy::expect_used, reason = "helpers of tests may fail loudly")]

use std::process::Command;

/// The packages that a package is built from, without those of its tests.
fn tree(args: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--locked",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).expect("names are text")
}

#[test]
fn stores_bring_their_sdk_only_where_they_are_asked_for() {
    let sdks = |args: &[&str]| {
        let tree = tree(args);
        ["aws-sdk-s3 ", "google-cloud-storage "]
            .map(|sdk| tree.lines().any(|line| line.starts_with(sdk)))
    };
    assert_eq!(
        sdks(&["-p", "storage", "--no-default-features"]),
        [false, false]
    );
    assert_eq!(sdks(&["-p", "storage", "--features", "s3"]), [true, false]);
    assert_eq!(sdks(&["-p", "storage", "--features", "gcs"]), [false, true]);
    // Neither has the library.
    assert_eq!(
        sdks(&["-p", "duckfeeder", "--no-default-features"]),
        [false, false]
    );
    assert_eq!(sdks(&["-p", "duckfeeder-cli"]), [true, true]);
}
