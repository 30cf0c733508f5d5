//! Keeping credentials: what `login` writes and `logout` removes.
//!
//! Invariants: a helper that the file names gets the secret, and then the file does not have it; other
//! contents of the file stay; the file is replaced at once and only its owner may read it.

use crate::credential::{Credential, CredentialError, normal_key, servers, store_servers};
use crate::helper;
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where a credential was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// In the file, legible to whoever can read it.
    File,
    Helper(String),
}

/// Keep the credential of `domain` in Docker's config.json at `path`, or in the helper that it names.
pub fn save_credential(
    path: &Path,
    helper_dirs: &[PathBuf],
    domain: &str,
    credential: &Credential,
) -> Result<Kept, CredentialError> {
    let mut file = read(path)?;
    let key = store_servers(domain).swap_remove(0);
    if let Some((helper, server)) = helper_of(&file, domain) {
        helper::store(&helper, &server, credential, helper_dirs)?;
        // Docker marks servers whose secret is elsewhere by an empty entry.
        let changed = auths(&mut file, path)?.insert(key, json!({}));
        if changed != Some(json!({})) {
            write(path, &file)?;
        }
        return Ok(Kept::Helper(helper));
    }
    let encode = |user: &str, secret: &str| {
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}"))
    };
    let entry = match credential {
        Credential::Password { user, password } => json!({ "auth": encode(user, password) }),
        Credential::Identity { token } => json!({ "auth": encode("<token>", ""), "identitytoken": token }),
        Credential::Bearer { token } => json!({ "registrytoken": token }),
    };
    let auths = auths(&mut file, path)?;
    auths.retain(|k, _| !servers(domain).contains(&normal_key(k)));
    auths.insert(key, entry);
    write(path, &file)?;
    Ok(Kept::File)
}

/// Forget the credential of `domain`. Whether there was one.
pub fn forget_credential(
    path: &Path,
    helper_dirs: &[PathBuf],
    domain: &str,
) -> Result<bool, CredentialError> {
    let mut file = read(path)?;
    let helper = helper_of(&file, domain);
    let mut found = false;
    if let Some((helper, server)) = helper {
        found = helper::get(&helper, &server, helper_dirs)?.is_some();
        helper::erase(&helper, &server, helper_dirs)?;
    }
    let auths = auths(&mut file, path)?;
    let before = auths.len();
    auths.retain(|k, _| !servers(domain).contains(&normal_key(k)));
    if auths.len() != before {
        write(path, &file)?;
        found = true;
    }
    Ok(found)
}

fn helper_of(file: &Map<String, Value>, domain: &str) -> Option<(String, String)> {
    let named = |field: &str, key: &str| file.get(field)?.get(key)?.as_str().map(str::to_string);
    let own = servers(domain).into_iter().find_map(|s| Some((named("credHelpers", &s)?, s)));
    let store = || {
        let store = file.get("credsStore")?.as_str()?.to_string();
        Some((store, store_servers(domain).swap_remove(0)))
    };
    own.or_else(store).filter(|(helper, _)| !helper.is_empty())
}

fn auths<'a>(
    file: &'a mut Map<String, Value>,
    path: &Path,
) -> Result<&'a mut Map<String, Value>, CredentialError> {
    let entry = file.entry("auths").or_insert_with(|| json!({}));
    if entry.is_null() {
        *entry = json!({});
    }
    entry.as_object_mut().ok_or_else(|| CredentialError::Format { path: path.to_path_buf(), source: None })
}

fn read(path: &Path) -> Result<Map<String, Value>, CredentialError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(source) => return Err(CredentialError::Read { path: path.to_path_buf(), source }),
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    serde_json::from_slice(&text)
        .map_err(|e| CredentialError::Format { path: path.to_path_buf(), source: Some(e) })
}

fn write(path: &Path, file: &Map<String, Value>) -> Result<(), CredentialError> {
    let fail = |source| CredentialError::Write { path: path.to_path_buf(), source };
    // A linked file is replaced where it is, and the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
    let mut bytes = serde_json::to_vec_pretty(file).map_err(|e| fail(e.into()))?;
    bytes.push(b'\n');
    // Such a file is made with mode 0600.
    let mut temporary = tempfile::Builder::new().prefix(".config-").tempfile_in(folder).map_err(fail)?;
    temporary.write_all(&bytes).map_err(fail)?;
    temporary.as_file().sync_all().map_err(fail)?;
    temporary.persist(&target).map_err(|e| fail(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CredentialFiles, Credentials};
    use std::os::unix::fs::PermissionsExt;

    fn password(user: &str, password: &str) -> Credential {
        Credential::Password { user: user.into(), password: password.into() }
    }

    #[test]
    fn a_login_is_found_again_and_other_contents_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/config.json");
        let lookup = |domain: &str| {
            CredentialFiles::load(std::slice::from_ref(&path), vec![]).unwrap().lookup(domain, "x").unwrap()
        };
        assert_eq!(save_credential(&path, &[], "docker.io", &password("u", "p:1")).unwrap(), Kept::File);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(lookup("docker.io"), Some(password("u", "p:1")));
        let mut text = fs::read_to_string(&path).unwrap();
        text = text.replacen('{', r#"{"HttpHeaders":{"A":"b"},"#, 1);
        fs::write(&path, text).unwrap();
        let token = Credential::Identity { token: "t".into() };
        save_credential(&path, &[], "h:5000", &token).unwrap();
        save_credential(&path, &[], "docker.io", &password("v", "q")).unwrap();
        assert_eq!((lookup("h:5000"), lookup("docker.io")), (Some(token), Some(password("v", "q"))));
        assert!(fs::read_to_string(&path).unwrap().contains("HttpHeaders"));
        assert!(forget_credential(&path, &[], "docker.io").unwrap());
        assert!(!forget_credential(&path, &[], "docker.io").unwrap());
        assert_eq!(lookup("docker.io"), None);
        fs::write(&path, r#"{"auths":[]}"#).unwrap();
        assert!(save_credential(&path, &[], "a.b", &password("u", "p")).is_err());
    }

    #[test]
    fn a_helper_keeps_the_secret_out_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("docker-credential-box");
        let kept = dir.path().join("kept");
        let text = format!(
            "#!/bin/sh\ncase $1 in\nstore) cat >{0};;\nget) cat {0} 2>/dev/null || \
             {{ echo 'credentials not found'; exit 1; }};;\nerase) rm -f {0};;\nesac\n",
            kept.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, r#"{"credsStore":"box"}"#).unwrap();
        let dirs = vec![dir.path().to_path_buf()];
        let done = save_credential(&path, &dirs, "r.example", &password("u", "secret")).unwrap();
        assert_eq!(done, Kept::Helper("box".into()));
        assert!(!fs::read_to_string(&path).unwrap().contains("secret"));
        let files = CredentialFiles::load(std::slice::from_ref(&path), dirs.clone()).unwrap();
        assert_eq!(files.lookup("r.example", "").unwrap(), Some(password("u", "secret")));
        assert!(forget_credential(&path, &dirs, "r.example").unwrap());
        assert!(!kept.exists());
    }
}
