//! Which names are those of secrets.

const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// BuildKit's measure: a part between underscores is a telling word, and none says that it is harmless.
pub fn is_secret_name(name: &str) -> bool {
    let parts = || name.split('_').map(str::to_lowercase);
    parts().any(|part| SECRET.contains(&part.as_str()))
        && !parts().any(|part| HARMLESS.contains(&part.as_str()))
}

/// Whether a file of that name usually holds a secret.
pub fn is_secret_file(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path).to_ascii_lowercase();
    let exact = [
        ".env",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".pgpass",
        ".git-credentials",
        ".htpasswd",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "credentials.json",
        "service-account.json",
        "kubeconfig",
        ".dockercfg",
        "terraform.tfstate",
        "secrets.yml",
        "secrets.yaml",
        "secrets.json",
    ];
    let ends = [".pem", ".p12", ".pfx", ".key", ".jks", ".keystore", ".kdbx", ".ppk"];
    let public = name.ends_with(".pub")
        || name.contains("public")
        || name.contains("example")
        || name.contains("sample");
    !public
        && (exact.contains(&name.as_str())
            || name.starts_with(".env.")
            || ends.iter().any(|end| name.ends_with(end))
            || path.ends_with(".aws/credentials")
            || path.ends_with(".docker/config.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["API_KEY", "token", "DATABASE_PASSWORD", "secret_MESSAGE", "AUTH"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["KEYBOARD", "TOKEN_FILE", "PUBLIC_KEY", "authority", "KEY_VERSION"] {
            assert!(!is_secret_name(name), "{name}");
        }
        assert!(is_secret_file("a/id_rsa") && is_secret_file(".env") && !is_secret_file("id_rsa.pub"));
    }
}
