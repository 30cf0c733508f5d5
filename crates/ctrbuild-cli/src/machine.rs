//! What comes from the machine: paths, environment, platform, the registry client's settings.

use crate::args::{Global, Snapshotter};
use ctrbuild::{Error, Session};
use oci::Platform;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Whether this process may do as it likes on the host.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() && !sandbox::userns::inside()
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").filter(|h| !h.is_empty()).map(PathBuf::from)
}

/// The folder of the store.
pub fn store_root(global: &Global) -> Result<PathBuf, Error> {
    if let Some(root) = &global.root {
        return Ok(root.clone());
    }
    if is_root() {
        return Ok(PathBuf::from("/var/lib/ctrbuild"));
    }
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|d| Path::new(d).is_absolute())
        .map(PathBuf::from)
        .or_else(|| home().map(|h| h.join(".local/share")));
    data.map(|d| d.join("ctrbuild")).ok_or_else(|| {
        Error::world("neither HOME nor XDG_DATA_HOME is set").hint("name the store with --root DIR")
    })
}

/// The platform of this machine, as Go names it.
pub fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "x86" => ("386", None),
        "arm" => ("arm", Some("v7".to_string())),
        "powerpc64" => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    };
    Platform { variant, ..Platform::new("linux", architecture) }
}

pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, NonZeroUsize::get)
}

/// Open the store and what goes with it.
pub fn session(global: &Global) -> Result<Session, Error> {
    let store = store::LocalStore::open(&store_root(global)?, Default::default())?;
    let made: Arc<OnceLock<registry::Client>> = Arc::default();
    let registry = move || match made.get() {
        Some(client) => Ok(client.clone()),
        None => {
            let client = registry_client()?;
            Ok(made.get_or_init(|| client).clone())
        }
    };
    let kind = match global.snapshotter {
        None => worker::SnapshotterKind::Auto,
        Some(Snapshotter::Overlay) => worker::SnapshotterKind::Overlay,
        Some(Snapshotter::Copy) => worker::SnapshotterKind::Copy,
    };
    let snapshotter = worker::Snapshotter::new(store.clone(), kind);
    Ok(Session { store, snapshotter, registry: Arc::new(registry), host: host_platform() })
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|n| std::env::var(n).ok()).filter(|v| !v.is_empty())
}

/// The places of docker's and podman's credentials, best first.
pub fn credential_paths() -> Vec<PathBuf> {
    let mut paths = Vec::new();
    if let Some(file) = variable(&["REGISTRY_AUTH_FILE"]) {
        paths.push(PathBuf::from(file));
    }
    paths.extend(credential_file());
    if let Some(run) = variable(&["XDG_RUNTIME_DIR"]) {
        paths.push(Path::new(&run).join("containers/auth.json"));
    }
    paths.extend(home().map(|h| h.join(".config/containers/auth.json")));
    paths
}

/// Docker's config.json.
pub fn credential_file() -> Option<PathBuf> {
    match variable(&["DOCKER_CONFIG"]) {
        Some(dir) => Some(Path::new(&dir).join("config.json")),
        None => home().map(|h| h.join(".docker/config.json")),
    }
}

/// The folders of PATH.
pub fn path_folders() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default()
}

fn registry_client() -> Result<registry::Client, Error> {
    let credentials = registry::CredentialFiles::load(&credential_paths(), path_folders())
        .map_err(|e| Error::world(ctrbuild::chain(&e)).hint(e.hint()))?;
    Ok(registry::Client::new(registry_config(Arc::new(credentials))))
}

/// The client's settings on this machine.
pub fn registry_config(credentials: Arc<dyn registry::Credentials>) -> registry::Config {
    let mut config = registry::Config::new(credentials);
    config.user_agent = concat!("ctrbuild/", env!("CARGO_PKG_VERSION")).into();
    config.trust.file = variable(&["SSL_CERT_FILE"]).map(PathBuf::from);
    config.trust.dir = variable(&["SSL_CERT_DIR"]).map(PathBuf::from);
    config.certs_dirs = ["/etc/docker/certs.d", "/etc/containers/certs.d"].map(PathBuf::from).to_vec();
    config.insecure = insecure_registries();
    if let Some(index) = variable(&["CTRBUILD_SEARCH_INDEX"]) {
        config.search_index = index;
    }
    config.proxy = registry::ProxySettings {
        http: variable(&["http_proxy", "HTTP_PROXY"]),
        https: variable(&["https_proxy", "HTTPS_PROXY"]),
        no_proxy: variable(&["no_proxy", "NO_PROXY"]),
    };
    if let Some(cpus) = NonZeroUsize::new(processors()) {
        config.limits = par::Limits::for_cpus(cpus);
    }
    config
}

/// `CTRBUILD_INSECURE_REGISTRIES=host:port,…`: plain HTTP for these.
fn insecure_registries() -> BTreeMap<String, registry::Insecure> {
    variable(&["CTRBUILD_INSECURE_REGISTRIES"])
        .iter()
        .flat_map(|v| v.split(','))
        .map(|host| (host.trim().to_string(), registry::Insecure::PlainHttp))
        .collect()
}

/// `512m`, `1.5g`, `1024`: bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 1u64,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok()?;
    (number >= 0.0 && number.is_finite()).then_some((number * unit as f64) as u64)
}

/// `90s`, `1h30m`, `7d`, `2w`; a number alone is hours.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(hours) = text.parse::<u64>() {
        return hours.checked_mul(3600).map(Duration::from_secs);
    }
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(seconds)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in
            [("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("24", 86_400), ("0", 0)]
        {
            assert_eq!(duration(text), Some(Duration::from_secs(want)), "{text}");
        }
        for bad in ["", "h", "5x", "-1h", "1h30", "1.5h", "99999999999999999999h", "9999999999999999w", "5ä"]
        {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in
            [("0", 0), ("512m", 512 << 20), ("1.5G", 3 << 29), ("64KiB", 64 << 10), ("10b", 10)]
        {
            assert_eq!(bytes(text), Some(want), "{text}");
        }
        for bad in ["", "x", "5q", "-1", "nan"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
