//! `--shellcheck PROGRAM`: asks ShellCheck about the shell text of all recipes at once.
//!
//! Scripts are files of a private folder, called by numbers of ours: nothing of a recipe becomes an argument,
//! a name or a command. ShellCheck only reads; it gets no configuration of the folder or of the user, and
//! follows no `source`. A program that is missing, fails or does not end is an error, never "nothing found".

use ctrbuild::Error;
use diagnostic::sanitize;
use lint::shellcheck::{Checker, Comment, Snippet, read};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

/// Most scripts for one process.
const BATCH: usize = 64;
/// Fewest scripts for which another process is worth its start.
const WORTH: usize = 8;
/// A process that takes longer will never end.
const PATIENCE: Duration = Duration::from_secs(300);
/// Most that a process may say.
const MAX_OUTPUT: u64 = 256 << 20;

/// A ShellCheck, and what it has said.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    known: Mutex<BTreeMap<Snippet, Arc<[Comment]>>>,
    failure: Mutex<Option<Error>>,
}

/// A script, and what was said of it.
type Answer = (Snippet, Arc<[Comment]>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    /// A name is looked for in PATH, anything with `/` is a path from here.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let alone = path.components().count() == 1 && !path.as_os_str().to_string_lossy().contains('/');
        let path = match alone {
            true => path.to_owned(),
            // It will be started in another folder.
            false => std::path::absolute(path)
                .map_err(|e| Error::world(format!("can't find {}: {e}", path.display())))?,
        };
        Ok(Self { path, known: Mutex::default(), failure: Mutex::default() })
    }

    /// Asks about all of them, in few processes at the same time.
    pub fn ask(&self, snippets: impl IntoIterator<Item = Snippet>) {
        let unknown: BTreeSet<Snippet> = {
            let known = locked(&self.known);
            snippets.into_iter().filter(|snippet| !known.contains_key(snippet)).collect()
        };
        if unknown.is_empty() || locked(&self.failure).is_some() {
            return;
        }
        match self.answers(&unknown.into_iter().collect::<Vec<_>>()) {
            Ok(answers) => locked(&self.known).extend(answers),
            Err(e) => *locked(&self.failure) = Some(e),
        }
    }

    /// Why it could not be asked.
    pub fn failure(&self) -> Option<Error> {
        locked(&self.failure).take()
    }

    fn answers(&self, snippets: &[Snippet]) -> Result<Vec<Answer>, Error> {
        let folder = Folder::new()?;
        for (number, snippet) in snippets.iter().enumerate() {
            let path = folder.0.join(number.to_string());
            std::fs::write(&path, snippet.text())
                .map_err(|e| Error::world(format!("can't write {}: {e}", path.display())))?;
        }
        let workers = crate::machine::processors().min(snippets.len().div_ceil(WORTH)).max(1);
        let size = snippets.len().div_ceil(workers).min(BATCH);
        let batches: Vec<std::ops::Range<usize>> =
            (0..snippets.len()).step_by(size).map(|from| from..(from + size).min(snippets.len())).collect();
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Comment>, Error> {
            let mut out = Vec::new();
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                out.extend(self.run(&folder.0, batch.clone())?);
            }
            Ok(out)
        };
        let said: Vec<Result<Vec<Comment>, Error>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| thread.join());
            ended.map(|end| end.unwrap_or_else(|_| Err(Error::world("a thread ended early")))).collect()
        });
        let mut by_number: Vec<Vec<Comment>> = vec![Vec::new(); snippets.len()];
        for comment in said.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let place = comment.file.parse::<usize>().ok().and_then(|number| by_number.get_mut(number));
            place.ok_or_else(|| self.fault("it speaks of a file that it was not given"))?.push(comment);
        }
        Ok(snippets.iter().cloned().zip(by_number.into_iter().map(Arc::from)).collect())
    }

    fn fault(&self, why: &str) -> Error {
        Error::world(format!("{} did not work as ShellCheck: {}", self.path.display(), sanitize(why.trim())))
            .hint("--shellcheck wants ShellCheck 0.7 or newer; `--shellcheck off` goes without")
    }

    fn run(&self, folder: &Path, numbers: std::ops::Range<usize>) -> Result<Vec<Comment>, Error> {
        let mut child = Command::new(&self.path)
            .args(["--norc", "--format=json1", "--"])
            .args(numbers.map(|number| number.to_string()))
            .current_dir(folder)
            .env_remove("SHELLCHECK_OPTS")
            // Elsewhere it can't read letters beyond ASCII.
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| {
                Error::world(format!("can't run {}: {e}", self.path.display()))
                    .hint("install the package shellcheck, or name its program by --shellcheck")
            })?;
        let output = listen(&mut child);
        if output.is_none() {
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| self.fault(&e.to_string()))?;
        let (said, complaint) =
            output.ok_or_else(|| self.fault(&format!("it did not end in {} s", PATIENCE.as_secs())))?;
        match status.code() {
            // 1: something was found.
            Some(0 | 1) => read(&String::from_utf8_lossy(&said)).map_err(|e| self.fault(&e)),
            _ => {
                let complaint = String::from_utf8_lossy(&complaint);
                let first = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                Err(self.fault(&format!("{status}: {first}")))
            }
        }
    }
}

/// Both streams of a process to their ends; `None`, if they have none.
fn listen(child: &mut Child) -> Option<(Vec<u8>, Vec<u8>)> {
    fn all(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(stream) = stream {
                let _ = stream.take(MAX_OUTPUT).read_to_end(&mut bytes);
            }
            let _ = sender.send(bytes);
        });
        receiver
    }
    let (stdout, stderr) = (all(child.stdout.take()), all(child.stderr.take()));
    Some((stdout.recv_timeout(PATIENCE).ok()?, stderr.recv_timeout(PATIENCE).ok()?))
}

impl Checker for Program {
    fn comments(&self, snippets: &[Snippet]) -> Vec<Arc<[Comment]>> {
        self.ask(snippets.iter().cloned());
        let known = locked(&self.known);
        snippets.iter().map(|snippet| known.get(snippet).cloned().unwrap_or_default()).collect()
    }
}

/// A folder that nobody else can enter; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Error> {
        let parent = std::env::temp_dir();
        for number in 0..u32::MAX {
            let path = parent.join(format!("ctrbuild-shellcheck-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::world(format!("can't make {}: {e}", path.display()))),
            }
        }
        Err(Error::world(format!("{} is full", parent.display())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a `ctrbuild.toml` below `root` may name a program: linting a project must not run what the project
/// brings along.
pub fn trusted(program: &str, root: &Path) -> Result<(), Error> {
    let path = Path::new(program);
    if !program.contains('/') || program == "off" {
        return Ok(());
    }
    let inside = path.canonicalize().is_ok_and(|path| path.starts_with(root));
    if path.is_absolute() && !inside && !path.starts_with("/proc") {
        return Ok(());
    }
    Err(Error::world(format!("configuration may not name {program:?} as ShellCheck")).hint(
        "give a name to look for in PATH or an absolute path outside of the project, or use --shellcheck",
    ))
}

/// The programs that were named, each asked once.
#[derive(Default)]
pub struct Programs(BTreeMap<PathBuf, Arc<Program>>);

impl Programs {
    /// The program of that name; `None` for `off`.
    pub fn get(&mut self, name: &OsStr) -> Result<Option<Arc<Program>>, Error> {
        if name == "off" {
            return Ok(None);
        }
        let path = PathBuf::from(name);
        if let Some(program) = self.0.get(&path) {
            return Ok(Some(Arc::clone(program)));
        }
        let program = Arc::new(Program::new(&path)?);
        self.0.insert(path, Arc::clone(&program));
        Ok(Some(program))
    }

    /// The first failure of any.
    pub fn failure(&self) -> Result<(), Error> {
        self.0.values().find_map(|program| program.failure()).map_or(Ok(()), Err)
    }
}
