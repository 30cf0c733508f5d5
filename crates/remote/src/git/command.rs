//! Running `git` in an environment of its own: no configuration of the machine, no prompts, no hooks, no
//! transports but the allowed ones. It is stopped when nobody waits for it any more.

use super::location::{Configuration, Credentials, Location};
use crate::error::tame;
use crate::{Error, Retries};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Notify;

/// Transports that may be spoken, also by submodules.
const TRANSPORTS: &str = "git:http:https:ssh";
/// Most bytes of standard output that are taken.
const MAX_OUTPUT: usize = 128 << 20;
/// The end of standard error that is kept for messages.
const MAX_ERRORS: usize = 64 << 10;

/// What `git` takes from its surroundings.
#[derive(Debug, Clone)]
pub struct GitSettings {
    /// `PATH`: where git, ssh and what they need are looked for.
    pub path: OsString,
    /// Variables such as `https_proxy` and `no_proxy`, with their values.
    pub proxies: Vec<(String, String)>,
    /// PEM bundle of authorities; `None` is git's own choice.
    pub authorities: Option<PathBuf>,
    pub ssh: SshSettings,
    /// Silence after which a server counts as dead.
    pub idle: Duration,
    pub retries: Retries,
}

/// How ssh remotes are reached. Keys are those of the agent only.
#[derive(Debug, Clone, Default)]
pub struct SshSettings {
    /// Socket of an ssh agent.
    pub agent: Option<PathBuf>,
    /// Files of host keys; a host that is in none of them is refused.
    pub known_hosts: Vec<PathBuf>,
}

impl Default for GitSettings {
    fn default() -> Self {
        GitSettings {
            path: OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            proxies: Vec::new(),
            authorities: None,
            ssh: SshSettings::default(),
            idle: Duration::from_secs(300),
            retries: Retries { attempts: 3, ..Retries::default() },
        }
    }
}

/// Runs `git`.
pub(super) struct Runner {
    settings: GitSettings,
    program: OnceLock<Option<PathBuf>>,
}

/// What a command works on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    /// `None` outside of any repository.
    pub git_dir: Option<&'a Path>,
    /// Current folder; with a `git_dir` the work tree as well.
    pub work: &'a Path,
}

/// A command that failed.
pub(super) struct Failed {
    /// The end of what it said.
    pub said: String,
}

impl Failed {
    pub fn says(&self, texts: &[&str]) -> bool {
        texts.iter().any(|t| self.said.contains(t))
    }

    /// Whether the same command may succeed a moment later.
    fn is_transient(&self) -> bool {
        self.says(&[
            "Connection refused",
            "Connection reset",
            "Connection timed out",
            "Operation timed out",
            "Could not resolve host",
            "Temporary failure in name resolution",
            "early EOF",
            "unexpected disconnect",
            "The remote end hung up unexpectedly",
            "RPC failed",
            "transfer closed with",
            "HTTP 5",
            "error: 429",
            "error: 50",
        ])
    }
}

/// How a command ended.
enum Outcome {
    Done(Vec<u8>),
    Failed(Failed),
    Stalled,
}

impl Runner {
    pub fn new(settings: GitSettings) -> Self {
        Runner { settings, program: OnceLock::new() }
    }

    fn program(&self) -> Result<&Path, Error> {
        let find = || {
            std::env::split_paths(&self.settings.path)
                .filter(|d| d.is_absolute())
                .map(|d| d.join("git"))
                .find(|p| rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok() && p.is_file())
        };
        self.program.get_or_init(find).as_deref().ok_or(Error::NoGit)
    }

    /// A command that talks to no server; what it prints.
    pub async fn local<S: AsRef<OsStr>>(
        &self,
        location: &Location,
        action: &'static str,
        place: Place<'_>,
        args: &[S],
    ) -> Result<Vec<u8>, Error> {
        // Large work trees are written without a word.
        match self.once(place, &[], &[], args, Duration::MAX).await? {
            Outcome::Done(out) => Ok(out),
            Outcome::Failed(failed) => Err(error(action, location, &failed)),
            Outcome::Stalled => Err(self.stalled(action, location)),
        }
    }

    /// A command that talks to a server, tried again after transient failures. A final failure is given back
    /// for another way to be tried.
    pub async fn remote<S: AsRef<OsStr>>(
        &self,
        location: &Location,
        action: &'static str,
        place: Place<'_>,
        credentials: &Credentials,
        args: &[S],
    ) -> Result<Result<Vec<u8>, Failed>, Error> {
        let Configuration { secret, plain } = credentials.configuration(location);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let last = attempt >= self.settings.retries.attempts;
            match self.once(place, &secret, &plain, args, self.settings.idle).await? {
                Outcome::Done(out) => return Ok(Ok(out)),
                Outcome::Failed(failed) if last || !failed.is_transient() => return Ok(Err(failed)),
                Outcome::Stalled if last => return Err(self.stalled(action, location)),
                _ => {}
            }
            tokio::time::sleep(self.settings.retries.plain(attempt)).await;
        }
    }

    fn stalled(&self, action: &'static str, location: &Location) -> Error {
        Error::GitStalled { action, remote: location.shown(), seconds: self.settings.idle.as_secs() }
    }

    fn command(
        &self,
        place: Place<'_>,
        secret: &[(String, String)],
        plain: &[(&str, &str)],
    ) -> Result<Command, Error> {
        let settings = &self.settings;
        let mut command = Command::new(self.program()?);
        command
            .env_clear()
            .current_dir(place.work)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
            .env("PATH", &settings.path)
            .env("LC_ALL", "C")
            .env("HOME", "/dev/null")
            .env("XDG_CONFIG_HOME", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "/bin/false")
            .env("SSH_ASKPASS", "/bin/false")
            .env("GIT_ALLOW_PROTOCOL", TRANSPORTS)
            .env("GIT_PROTOCOL_FROM_USER", "0")
            .env("GIT_CEILING_DIRECTORIES", "/")
            .env("GIT_SSH_VARIANT", "ssh")
            .env("GIT_SSH_COMMAND", ssh_command(&settings.ssh));
        if let Some(agent) = &settings.ssh.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        if let Some(file) = &settings.authorities {
            command.env("GIT_SSL_CAINFO", file);
        }
        for (name, value) in &settings.proxies {
            command.env(name, value);
        }
        if let Some(git_dir) = place.git_dir {
            command.env("GIT_DIR", git_dir).env("GIT_WORK_TREE", place.work);
        }
        // Values that may be secret are never arguments, which every user of the machine can read.
        command.env("GIT_CONFIG_COUNT", secret.len().to_string());
        for (i, (key, value)) in secret.iter().enumerate() {
            command.env(format!("GIT_CONFIG_KEY_{i}"), key).env(format!("GIT_CONFIG_VALUE_{i}"), value);
        }
        let fixed = [
            ("core.hooksPath", "/dev/null"),
            ("core.fsmonitor", "false"),
            ("core.logAllRefUpdates", "false"),
            ("core.symlinks", "true"),
            ("core.fileMode", "true"),
            ("credential.helper", ""),
            ("fetch.recurseSubmodules", "false"),
            ("submodule.recurse", "false"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("init.defaultBranch", "master"),
            ("safe.directory", "*"),
            ("http.lowSpeedLimit", "1"),
            ("http.lowSpeedTime", "60"),
            ("protocol.file.allow", "never"),
            ("protocol.ext.allow", "never"),
        ];
        for (key, value) in fixed.iter().chain(plain) {
            command.arg("-c").arg(format!("{key}={value}"));
        }
        Ok(command)
    }

    async fn once<S: AsRef<OsStr>>(
        &self,
        place: Place<'_>,
        secret: &[(String, String)],
        plain: &[(&str, &str)],
        args: &[S],
        idle: Duration,
    ) -> Result<Outcome, Error> {
        let mut command = self.command(place, secret, plain)?;
        command.args(args);
        let program = self.program()?;
        let mut child = command.spawn().map_err(Error::io("run", program))?;
        let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Error::Internal("git has no output"));
        };
        let alive = Notify::new();
        let work = async {
            // Both at the same time, or a full pipe would block the other.
            let (out, err, status) = tokio::join!(
                read(out, Keep::Start(MAX_OUTPUT), &alive),
                read(err, Keep::End(MAX_ERRORS), &alive),
                child.wait()
            );
            (out, err, status)
        };
        tokio::pin!(work);
        let (out, err, status) = loop {
            tokio::select! {
                done = &mut work => break done,
                () = alive.notified() => {}
                () = tokio::time::sleep(idle) => return Ok(Outcome::Stalled),
            }
        };
        let failed = |e| Error::io("run", program)(e);
        let (out, err, status) = (out.map_err(failed)?, err.map_err(failed)?, status.map_err(failed)?);
        if status.success() {
            return match out.len() > MAX_OUTPUT {
                true => Err(Error::Internal("git printed too much")),
                false => Ok(Outcome::Done(out)),
            };
        }
        Ok(Outcome::Failed(Failed { said: String::from_utf8_lossy(&err).into_owned() }))
    }
}

/// The error of a command that nothing else can be done about.
pub(super) fn error(action: &'static str, location: &Location, failed: &Failed) -> Error {
    // The lines that say what is wrong, without progress and the server's chatter before them.
    let lines: Vec<&str> = failed.said.split(['\n', '\r']).map(str::trim).filter(|l| !l.is_empty()).collect();
    let marked = |l: &&&str| {
        ["fatal:", "error:", "ERROR:", "remote:", "ssh:", "Host key", "Permission"]
            .iter()
            .any(|m| l.starts_with(m))
    };
    let mut said: Vec<&str> = lines.iter().filter(marked).copied().collect();
    if said.is_empty() {
        said = lines.last().copied().into_iter().collect();
    }
    let said = match said.is_empty() {
        true => "git failed and said nothing".to_string(),
        false => tame(&said.join("; ")),
    };
    Error::Git { action, remote: location.shown(), said }
}

enum Keep {
    /// The first bytes, and one more to tell that there were more.
    Start(usize),
    End(usize),
}

/// Everything up to a limit; the rest is read and dropped, so that the writer is never blocked.
async fn read(mut from: impl AsyncRead + Unpin, keep: Keep, alive: &Notify) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut buffer = vec![0; 32 << 10];
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(out);
        }
        alive.notify_one();
        match keep {
            Keep::Start(limit) => {
                out.extend_from_slice(&buffer[..n.min((limit + 1).saturating_sub(out.len()))])
            }
            Keep::End(limit) => {
                out.extend_from_slice(&buffer[..n]);
                if out.len() > 2 * limit {
                    out.drain(..out.len() - limit);
                }
            }
        }
    }
}

/// No configuration, no keys but the agent's, no unknown hosts, no questions.
fn ssh_command(ssh: &SshSettings) -> String {
    let mut out = String::from(
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentityFile=/dev/null",
    );
    let plain = |p: &&PathBuf| {
        p.to_str().is_some_and(|t| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)))
    };
    // The command is read by a shell, and the option by ssh: paths that mean more than themselves are left out.
    let files: Vec<String> = ssh.known_hosts.iter().filter(plain).map(|p| p.display().to_string()).collect();
    let files = if files.is_empty() { "/dev/null".to_string() } else { files.join(" ") };
    out.push_str(&format!(" -o 'UserKnownHostsFile={files}'"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_gets_no_words_of_paths() {
        let ssh = |p: &str| ssh_command(&SshSettings { agent: None, known_hosts: vec![p.into()] });
        assert!(ssh("/home/u/.ssh/known_hosts").ends_with("'UserKnownHostsFile=/home/u/.ssh/known_hosts'"));
        assert!(ssh("/a';touch /x'").ends_with("'UserKnownHostsFile=/dev/null'"));
    }

    #[tokio::test]
    async fn a_missing_git_is_named() {
        let runner = Runner::new(GitSettings { path: "/nonexistent".into(), ..GitSettings::default() });
        let location = Location::parse("https://h/r.git").unwrap();
        let place = Place { git_dir: None, work: Path::new("/") };
        let error = runner.local(&location, "run", place, &["version"]).await.unwrap_err();
        assert!(matches!(error, Error::NoGit) && error.hint().unwrap().contains("install git"));
    }
}
