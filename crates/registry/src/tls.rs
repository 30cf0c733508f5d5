//! Which certificates are trusted, and the HTTP client of each host.

use crate::config::{Config, Insecure};
use crate::error::Error;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where distributions keep the bundle.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The client for the registry `host` (`name` or `name:port`). Blocking: reads certificate files.
pub(crate) fn client_for(config: &Config, host: &str) -> Result<reqwest::Client, Error> {
    let tls = match config.insecure.get(host) {
        Some(Insecure::UnverifiedTls) => unverified()?,
        _ => verified(config, Some(host))?,
    };
    client_with(config, tls)
}

/// A client for hosts that are no registries: the same trust, proxies and time limit for connections, but
/// never unverified TLS and no certificate of a registry. It follows no redirects. Blocking: reads
/// certificate files.
///
/// # Errors
/// [`Error::Setup`] where a certificate file or the proxy's URL is unusable.
pub fn web_client(config: &Config) -> Result<reqwest::Client, Error> {
    client_with(config, verified(config, None)?)
}

fn client_with(config: &Config, tls: ClientConfig) -> Result<reqwest::Client, Error> {
    let setup = |what: String| Error::Setup { what };
    let mut builder = reqwest::Client::builder()
        .user_agent(&config.user_agent)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.timeouts.connect)
        .tcp_nodelay(true)
        .pool_max_idle_per_host(16)
        .referer(false)
        .no_proxy()
        .tls_backend_preconfigured(tls);
    // This machine itself is never reached through a proxy.
    let direct =
        format!("localhost,127.0.0.0/8,::1,{}", config.proxy.no_proxy.as_deref().unwrap_or_default());
    let bypass = reqwest::NoProxy::from_string(&direct);
    let proxies = [(&config.proxy.http, ProxyFor::Http), (&config.proxy.https, ProxyFor::Https)];
    for (url, kind) in proxies {
        let Some(url) = url.as_deref().filter(|u| !u.is_empty()) else { continue };
        let proxy = match kind {
            ProxyFor::Http => reqwest::Proxy::http(url),
            ProxyFor::Https => reqwest::Proxy::https(url),
        };
        let proxy = proxy.map_err(|_| setup("the proxy is not a valid URL".into()))?;
        builder = builder.proxy(proxy.no_proxy(bypass.clone()));
    }
    builder.build().map_err(|e| setup(e.without_url().to_string()))
}

enum ProxyFor {
    Http,
    Https,
}

/// Whether a folder of certificates has an entry for `host`, which then speaks TLS.
pub(crate) fn has_certs(config: &Config, host: &str) -> bool {
    host_dirs(config, host).next().is_some()
}

fn host_dirs<'a>(config: &'a Config, host: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    // `host` comes from a parsed reference or URL, so it has no slash and is never `..`.
    config.certs_dirs.iter().map(move |d| d.join(host)).filter(|d| d.is_dir())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verified(config: &Config, host: Option<&str>) -> Result<ClientConfig, Error> {
    let setup = |what: String| Error::Setup { what };
    let mut roots = RootCertStore::empty();
    for path in bundle_files(config)? {
        // Single broken or unsupported certificates of a bundle must not shut out the others.
        let bytes = fs::read(&path).map_err(|e| setup(format!("cannot read {}: {e}", path.display())))?;
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok));
    }
    let mut identity = None;
    for dir in host.into_iter().flat_map(|h| host_dirs(config, h)) {
        for path in sorted_files(&dir)? {
            let read = || fs::read(&path).map_err(|e| setup(format!("cannot read {}: {e}", path.display())));
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => {
                    let bytes = read()?;
                    for cert in CertificateDer::pem_slice_iter(&bytes) {
                        let cert = cert.map_err(|_| setup(format!("{} is not PEM", path.display())))?;
                        roots.add(cert).map_err(|e| setup(format!("{}: {e}", path.display())))?;
                    }
                }
                Some("cert") => {
                    let key_path = path.with_extension("key");
                    let key = fs::read(&key_path)
                        .map_err(|e| setup(format!("cannot read {}: {e}", key_path.display())))?;
                    let key = PrivateKeyDer::from_pem_slice(&key)
                        .map_err(|_| setup(format!("{} is no private key", key_path.display())))?;
                    let chain = CertificateDer::pem_slice_iter(&read()?)
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|_| setup(format!("{} is not PEM", path.display())))?;
                    identity = Some((chain, key));
                }
                _ => {}
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| setup(e.to_string()))?
        .with_root_certificates(roots);
    match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|e| setup(e.to_string())),
        None => Ok(builder.with_no_client_auth()),
    }
}

fn bundle_files(config: &Config) -> Result<Vec<PathBuf>, Error> {
    let mut out = Vec::new();
    out.extend(config.trust.file.clone());
    if let Some(dir) = &config.trust.dir {
        out.extend(sorted_files(dir)?);
    }
    if out.is_empty() {
        out.extend(BUNDLES.iter().map(PathBuf::from).find(|p| p.is_file()));
    }
    Ok(out)
}

fn sorted_files(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let setup = |e: std::io::Error| Error::Setup { what: format!("cannot read {}: {e}", dir.display()) };
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).map_err(setup)? {
        let path = entry.map_err(setup)?.path();
        if path.is_file() {
            out.push(path);
        }
    }
    out.sort();
    Ok(out)
}

fn unverified() -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Setup { what: e.to_string() })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

/// Accepts every certificate: only for registries that were configured so.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
