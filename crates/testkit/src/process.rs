//! Debian's docker-registry as a process: a registry that was not written by us.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Who may use a [`RegistryProcess`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Open,
    /// [`RegistryProcess::USER`] with [`RegistryProcess::PASSWORD`], by basic authentication.
    Htpasswd,
}

/// Listens on a free port of 127.0.0.1 until it is dropped.
pub struct RegistryProcess {
    child: Child,
    domain: String,
}

impl RegistryProcess {
    pub const USER: &'static str = "anna";
    pub const PASSWORD: &'static str = "pass word:1";
    /// bcrypt of the password, made by crypt(3).
    const HTPASSWD: &'static str = "anna:$2y$05$abcdefghijklmnopqrstuusWsnA3PCG6MJhsuMdaZgkE21cQMslZi\n";

    /// Start one that keeps its data in `folder/data`. `None`, with a line `skipped: …` on standard output,
    /// where docker-registry is not installed.
    pub fn start(folder: &Path, access: Access) -> Option<RegistryProcess> {
        std::fs::create_dir_all(folder).expect("a folder for the registry");
        // Taken by somebody else between this and the start at worst: then another port is tried.
        for _ in 0..5 {
            let domain = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port on loopback")
                .to_string();
            let config = folder.join("config.yml");
            std::fs::write(&config, Self::config(folder, &domain, access)).expect("write the configuration");
            let mut serve = Command::new("docker-registry");
            let serve = serve.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
            let Ok(child) = serve.spawn() else {
                println!("skipped: docker-registry is not installed");
                return None;
            };
            let mut registry = RegistryProcess { child, domain };
            if registry.listens() {
                return Some(registry);
            }
        }
        panic!("docker-registry does not listen");
    }

    fn config(folder: &Path, domain: &str, access: Access) -> String {
        let root = folder.display();
        let mut yaml = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: {domain}\n"
        );
        if access == Access::Htpasswd {
            std::fs::write(folder.join("htpasswd"), Self::HTPASSWD).expect("write the passwords");
            yaml.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"));
        }
        yaml
    }

    /// False if the process ended instead.
    fn listens(&mut self) -> bool {
        let started = Instant::now();
        while TcpStream::connect(&self.domain).is_err() {
            let ended = self.child.try_wait().is_ok_and(|status| status.is_some());
            if ended || started.elapsed() > Duration::from_secs(20) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// `127.0.0.1:PORT`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// A name in this registry.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.domain)
    }
}

impl Drop for RegistryProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
