//! See the [module](super).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Failure;

/// Programs that make and mount the disk, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("mkfs.btrfs", "btrfs-progs"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("unshare", "util-linux"),
];

/// Room for the disk and its copies; files of this size that hold nothing take no room.
const BANK_BYTES: u64 = 16 << 30;

/// A disk that is mounted. It needs a [namespace](super::enter) of its own.
#[derive(Debug)]
pub struct Disk {
    folder: TempDir,
    image: PathBuf,
    images: u64,
}

/// What a disk had at one moment.
#[derive(Debug)]
pub struct Image(PathBuf);

impl Disk {
    /// Why there can be none here, if so.
    pub fn missing() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("power can be cut by root only: disks have to be mounted".to_owned());
        }
        if !Path::new("/dev/loop-control").exists() {
            return Some("there are no loop devices to make a disk of".to_owned());
        }
        let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        // Modules are loaded when they are mounted; where there are none, the list is complete.
        let loadable = Path::new("/proc/modules").exists();
        if !loadable && !systems.lines().any(|line| line.trim() == "btrfs") {
            return Some("the kernel has no btrfs".to_owned());
        }
        let missing = PROGRAMS.iter().find(|(program, _)| find(program).is_none());
        missing.map(|(program, package)| format!("no {program} (Debian: {package})"))
    }

    /// An empty disk of this size.
    ///
    /// # Errors
    /// If it cannot be made or mounted.
    pub fn new(bytes: u64) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("posthaste-disk-").tempdir()?;
        let at = |name: &str| folder.path().join(name);
        let (bank_file, bank) = (at("bank.img"), at("bank"));
        std::fs::create_dir(&bank)?;
        std::fs::create_dir(at("disk"))?;
        sparse(&bank_file, BANK_BYTES)?;
        run("mkfs.btrfs", [OsStr::new("-q"), bank_file.as_os_str()])?;
        mount(&bank_file, &bank)?;
        let image = bank.join("disk-0.img");
        sparse(&image, bytes)?;
        let options = ["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard"];
        run("mkfs.ext4", options.map(OsStr::new).into_iter().chain([image.as_os_str()]))?;
        let disk = Self { folder, image, images: 0 };
        mount(&disk.image, &disk.path())?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Cuts the power: keeps what the disk has at this moment. What uses the disk goes on as if
    /// nothing had happened, until it is ended by whoever cuts.
    ///
    /// # Errors
    /// If the image cannot be copied.
    pub fn cut(&mut self) -> Result<Image, Failure> {
        self.images += 1;
        let copy = self.image.with_file_name(format!("disk-{}.img", self.images));
        let all = [OsStr::new("--reflink=always"), self.image.as_os_str(), copy.as_os_str()];
        run("cp", all)?;
        Ok(Image(copy))
    }

    /// Puts what was kept in the place of the disk. The old one is gone with all that was written
    /// since; whoever still has files of it open has to be ended.
    ///
    /// # Errors
    /// If it cannot be mounted.
    pub fn replace(&mut self, image: Image) -> Result<(), Failure> {
        run("umount", [OsStr::new("-l"), self.path().as_os_str()])?;
        std::fs::remove_file(&self.image)?;
        self.image = image.0;
        mount(&self.image, &self.path())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays mounted ends with the namespace.
        for name in ["disk", "bank"] {
            drop(run("umount", [OsStr::new("-l"), self.folder.path().join(name).as_os_str()]));
        }
    }
}

fn sparse(path: &Path, bytes: u64) -> Result<(), Failure> {
    Ok(std::fs::File::create_new(path)?.set_len(bytes)?)
}

fn mount(image: &Path, at: &Path) -> Result<(), Failure> {
    let options = ["-o", "loop,noatime"].map(OsStr::new);
    run("mount", options.into_iter().chain([image.as_os_str(), at.as_os_str()]))
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<(), Failure> {
    let found = find(program).unwrap_or_else(|| program.into());
    let output = Command::new(found).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{program}: {}: {}", output.status, said.trim()).into())
        }
    }
}

/// A program in the usual places; those for root are not in everybody's path.
fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    let places = std::env::split_paths(&paths).chain(usual);
    places.map(|folder| folder.join(program)).find(|place| place.is_file())
}
