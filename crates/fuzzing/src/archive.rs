//! Archives: whatever a tar says, nothing outside of the folder changes.

use layer::Marks;
use layer::extract::ExtractOptions;
use layer::unpack::{UnpackOptions, apply};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Bytes of a tar that are taken at most.
const MOST: u64 = 1 << 20;

/// A folder with a canary beside the folder that an archive goes into.
struct Cage {
    dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Cage {
    fn new() -> Cage {
        let dir = tempfile::Builder::new().prefix("ctrbuild-fuzz-").tempdir().expect("a temporary folder");
        fs::create_dir(dir.path().join("root")).expect("a folder");
        fs::create_dir(dir.path().join("canary")).expect("a folder");
        fs::write(dir.path().join("canary/file"), "sings").expect("a file");
        let before = look(&dir.path().join("canary"));
        Cage { dir, before }
    }
    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("root")
    }
    fn check(&self) {
        assert_eq!(look(&self.dir.path().join("canary")), self.before);
        let mut beside: Vec<_> =
            fs::read_dir(self.dir.path()).expect("the folder").flatten().map(|e| e.file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["canary", "root"]);
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Folders may deny access to their owner.
        let mut todo = vec![self.root()];
        while let Some(dir) = todo.pop() {
            let _ = fs::set_permissions(&dir, fs::Permissions::from_mode(0o700));
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            todo.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        }
    }
}

fn look(dir: &Path) -> Vec<String> {
    let describe = |path: &Path| {
        let m = fs::symlink_metadata(path).expect("the canary is there");
        let content = fs::read(path).unwrap_or_default();
        format!(
            "{} {:o} {}:{} {} {content:?} {:?}",
            path.display(),
            m.mode(),
            m.uid(),
            m.gid(),
            m.nlink(),
            (m.mtime(), m.mtime_nsec())
        )
    };
    vec![describe(dir), describe(&dir.join("file"))]
}

/// A layer, as images have them. What was unpacked can be packed, and unpacks to the same once more.
pub fn layer(bytes: &[u8]) {
    let cage = Cage::new();
    let options = UnpackOptions {
        marks: Marks::User,
        max_bytes: Some(MOST),
        max_entries: Some(200),
        ..UnpackOptions::default()
    };
    if let Ok(report) = apply(bytes, &cage.root(), &options) {
        assert!(report.size <= MOST && report.entries <= 200);
        let pack = layer::pack::PackOptions { marks: Marks::User, ..Default::default() };
        let mut tar = Vec::new();
        if let Ok(first) = layer::pack::write_layer(&cage.root(), &[], &pack, &mut tar) {
            let again = Cage::new();
            let report = apply(
                tar.as_slice(),
                &again.root(),
                &UnpackOptions { marks: Marks::User, ..Default::default() },
            )
            .expect("what was packed unpacks");
            assert_eq!(report.diff_id, first.diff_id);
            let second = layer::pack::diff_id(&again.root(), &[], &pack).expect("and packs");
            assert_eq!(second.diff_id, first.diff_id, "layer = diff(apply(layer))");
        }
    }
    cage.check();
}

/// What `ADD` unpacks: any packing, over files that are there already, links to the canary among them.
pub fn extract(bytes: &[u8]) {
    let cage = Cage::new();
    let root = cage.root();
    std::os::unix::fs::symlink("../canary", root.join("link")).expect("a link");
    std::os::unix::fs::symlink("../canary/file", root.join("file")).expect("a link");
    let folder = fs::File::open(&root).expect("the folder");
    let limits = layer::decompress::Limits { output: Some(MOST), ..Default::default() };
    layer::extract::is_archive(bytes);
    let _ = layer::extract::extract(bytes, &folder, &ExtractOptions { limits, ..Default::default() });
    cage.check();
}
