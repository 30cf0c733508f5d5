//! Platforms: parsing of `linux/arm64/v8`, normal forms, and which image runs where.
//!
//! Names and fall-backs are those of containerd's platforms package, on which Docker and BuildKit
//! rely: `x86_64` is `amd64`, an arm/v7 host also runs v6 and v5, an amd64 host also runs 386.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What an image runs on (OCI image spec, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Platform {
    /// A GOARCH: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "crate::json::nullable")]
    pub architecture: String,
    /// A GOOS: `linux`, `windows`.
    #[serde(default, deserialize_with = "crate::json::nullable")]
    pub os: String,
    /// Windows: `10.0.20348.1547`.
    #[serde(
        rename = "os.version",
        default,
        deserialize_with = "crate::json::non_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Windows: `win32k`.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "crate::json::nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// `v7` of arm, `v2` of amd64.
    #[serde(default, deserialize_with = "crate::json::non_empty", skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePlatformError {
    #[error("{0:?} is neither a known operating system nor a known architecture")]
    Unknown(String),
    #[error("invalid platform {0:?}")]
    Format(String),
}

impl ParsePlatformError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "write it as OS/ARCH[/VARIANT], such as linux/amd64 or linux/arm/v7"
    }
}

const KNOWN_OS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];
const KNOWN_ARCH: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    pub fn new(os: &str, architecture: &str) -> Self {
        Platform { os: os.into(), architecture: architecture.into(), ..Platform::default() }
    }

    /// Parse `OS[(VERSION[+FEATURE])]/ARCH[/VARIANT]`, or an operating system or architecture alone,
    /// of which `host` supplies the other half.
    pub fn parse(text: &str, host: &Platform) -> Result<Self, ParsePlatformError> {
        let format = || ParsePlatformError::Format(text.chars().take(200).collect());
        let parts: Vec<&str> = text.splitn(4, '/').collect();
        let word = |s: &str, more: &str| {
            !s.is_empty()
                && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c) || more.contains(c))
        };
        let (os, version, features) = parse_os(parts[0]).ok_or_else(format)?;
        if !word(os, "") || !parts[1..].iter().all(|p| word(p, ".")) {
            return Err(format());
        }
        let mut p =
            Platform { os: normal_os(os), os_version: version, os_features: features, ..Platform::default() };
        match parts[..] {
            [_] if KNOWN_OS.contains(&p.os.as_str()) => {
                p.architecture = host.architecture.clone();
                p.variant = host.variant.clone().filter(|v| p.architecture == "arm" && v != "v7");
            }
            [one] => {
                let (arch, variant) = normal_arch(one, "");
                if !KNOWN_ARCH.contains(&arch.as_str()) {
                    return Err(ParsePlatformError::Unknown(one.chars().take(200).collect()));
                }
                p.os = host.os.clone();
                (p.architecture, p.variant) = (arch, variant);
                p.hide_default_arm();
            }
            [_, arch] => {
                (p.architecture, p.variant) = normal_arch(arch, "");
                p.hide_default_arm();
            }
            [_, arch, variant] => {
                (p.architecture, p.variant) = normal_arch(arch, variant);
                if p.architecture == "arm64" && p.variant.is_none() {
                    p.variant = Some("v8".into());
                }
            }
            _ => return Err(format()),
        }
        Ok(p)
    }

    fn hide_default_arm(&mut self) {
        if self.architecture == "arm" && self.variant.as_deref() == Some("v7") {
            self.variant = None;
        }
    }

    /// The canonical form, in which equal platforms are equal values: `arm` is always `arm/v7`,
    /// `arm64/v8` is `arm64`, `amd64/v1` is `amd64`.
    pub fn normalize(&self) -> Self {
        let (architecture, variant) =
            normal_arch(&self.architecture, self.variant.as_deref().unwrap_or_default());
        let mut os_features = self.os_features.clone();
        os_features.sort();
        os_features.dedup();
        Platform {
            architecture,
            os: normal_os(&self.os),
            os_version: self.os_version.clone(),
            os_features,
            variant,
        }
    }

    /// `os/arch[/variant]`, without version and features.
    pub fn short(&self) -> String {
        let mut out = if self.os.is_empty() { "unknown".to_string() } else { self.os.clone() };
        for part in [Some(&self.architecture), self.variant.as_ref()].into_iter().flatten() {
            if !part.is_empty() {
                out.push('/');
                out.push_str(part);
            }
        }
        out
    }

    /// What images a machine of this platform can run, best first.
    pub fn matcher(&self) -> Matcher {
        Matcher::new(self)
    }

    /// Whether an image for `other` is one for this very platform (no fall-back to older variants).
    pub fn is_same(&self, other: &Platform) -> bool {
        let (a, b) = (self.normalize(), other.normalize());
        (&a.os, &a.architecture, &a.variant) == (&b.os, &b.architecture, &b.variant)
            && version_runs(&a, b.os_version.as_deref())
    }
}

/// The full specifier: `windows(10.0.20348+win32k)/amd64`, `linux/arm/v7`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.os_version.is_none() && self.os_features.is_empty() {
            return f.write_str(&self.short());
        }
        write!(f, "{}({}", self.os, escape(self.os_version.as_deref().unwrap_or_default()))?;
        let mut features = self.os_features.clone();
        features.sort();
        features.dedup();
        for feature in features.iter().filter(|x| !x.is_empty()) {
            write!(f, "+{}", escape(feature))?;
        }
        f.write_str(")")?;
        for part in [Some(&self.architecture), self.variant.as_ref()].into_iter().flatten() {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

/// `os(version+feature)` -> its parts.
fn parse_os(text: &str) -> Option<(&str, Option<String>, Vec<String>)> {
    let Some((os, options)) = text.split_once('(') else { return Some((text, None, Vec::new())) };
    let options = options.strip_suffix(')')?;
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.%-+".contains(c);
    if !options.chars().all(fine) {
        return None;
    }
    let mut parts = options.split('+');
    let version = unescape(parts.next().unwrap_or_default())?;
    let features = parts.map(|p| unescape(p).filter(|f| !f.is_empty())).collect::<Option<Vec<_>>>()?;
    Some((os, Some(version).filter(|v| !v.is_empty()), features))
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '%' => out.push_str("%25"),
            '+' => out.push_str("%2B"),
            '(' => out.push_str("%28"),
            ')' => out.push_str("%29"),
            '/' => out.push_str("%2F"),
            c => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let digit = |b: Option<u8>| (b? as char).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

fn normal_os(os: &str) -> String {
    let os = os.to_ascii_lowercase();
    if os == "macos" { "darwin".into() } else { os }
}

fn normal_arch(arch: &str, variant: &str) -> (String, Option<String>) {
    let arch = arch.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (a, v): (&str, &str) = match (arch.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", v) => ("amd64", v),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", v) => ("arm64", v),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (a, v) => (a, v),
    };
    (a.to_string(), Some(v.to_string()).filter(|v| !v.is_empty()))
}

/// The numbers of a Windows version, compared as numbers: `10.0.BUILD.REVISION`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowsVersion {
    pub major: u32,
    pub minor: u32,
    pub build: u32,
    /// Zero if not given.
    pub revision: u32,
}

/// Windows Server 2022, from which on newer hosts run older long-term images.
const LTSC_2022: u32 = 20348;
/// Long-term releases with a stable interface, ascending.
const STABLE_LTSC: [u32; 2] = [LTSC_2022, 26100];

impl WindowsVersion {
    /// `None` unless at least major, minor and build are numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(str::parse::<u32>);
        let (major, minor, build) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        let revision = parts.next().and_then(Result::ok).unwrap_or(0);
        Some(WindowsVersion { major, minor, build, revision })
    }

    /// Whether a host of this version runs a container image of version `image`.
    pub fn runs(self, image: WindowsVersion) -> bool {
        if (self.major, self.minor) != (image.major, image.minor) {
            return false;
        }
        if self.build < LTSC_2022 {
            return self.build == image.build;
        }
        let oldest = STABLE_LTSC.iter().rev().find(|b| **b < self.build).copied().unwrap_or(LTSC_2022);
        (oldest..=self.build).contains(&image.build)
    }
}

fn version_runs(host: &Platform, image: Option<&str>) -> bool {
    if host.os != "windows" {
        return true;
    }
    let Some(host) = host.os_version.as_deref().and_then(WindowsVersion::parse) else { return true };
    match image.map(WindowsVersion::parse) {
        None => true,
        Some(Some(image)) => host.runs(image),
        Some(None) => false,
    }
}

/// Ranks the images of an index for one machine.
#[derive(Debug, Clone)]
pub struct Matcher {
    /// Best first.
    order: Vec<Platform>,
}

/// The order among images that a machine can run; the smallest is the best.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    architecture: usize,
    /// Newer versions come first, and of one version the one with more features.
    version: std::cmp::Reverse<Option<WindowsVersion>>,
    features: std::cmp::Reverse<usize>,
}

impl Matcher {
    fn new(platform: &Platform) -> Self {
        let p = platform.normalize();
        let mut order = Vec::new();
        let mut push = |arch: &str, variant: Option<String>| {
            order.push(Platform { architecture: arch.into(), variant, ..p.clone() }.normalize());
        };
        let number = |v: &Option<String>| v.as_deref().and_then(|v| v.strip_prefix('v')?.parse::<u32>().ok());
        match p.architecture.as_str() {
            "amd64" => {
                push("amd64", p.variant.clone());
                for v in (1..number(&p.variant).unwrap_or(1).min(9)).rev() {
                    push("amd64", Some(format!("v{v}")));
                }
                push("386", None);
            }
            "arm" => {
                push("arm", p.variant.clone());
                for v in (5..number(&p.variant).unwrap_or(5).min(99)).rev() {
                    push("arm", Some(format!("v{v}")));
                }
            }
            "arm64" => {
                let chain = arm64_chain(p.variant.as_deref().unwrap_or("v8"));
                if chain.is_empty() {
                    push("arm64", p.variant.clone());
                }
                for v in chain {
                    push("arm64", Some(v));
                }
                for v in (5..=8).rev() {
                    push("arm", Some(format!("v{v}")));
                }
            }
            other => push(other, p.variant.clone()),
        }
        Matcher { order }
    }

    /// `None` if the machine cannot run an image for `image`.
    pub fn rank(&self, image: &Platform) -> Option<Rank> {
        let image = image.normalize();
        let architecture = self.order.iter().position(|p| fits(p, &image))?;
        let version = match image.os.as_str() {
            "windows" => image.os_version.as_deref().and_then(WindowsVersion::parse),
            _ => None,
        };
        Some(Rank {
            architecture,
            features: std::cmp::Reverse(image.os_features.len()),
            version: std::cmp::Reverse(version),
        })
    }

    pub fn matches(&self, image: &Platform) -> bool {
        self.rank(image).is_some()
    }
}

/// `want` and `image` are normalised.
fn fits(want: &Platform, image: &Platform) -> bool {
    let feature_ok = |f: &String| (image.os == "windows" && f == "win32k") || want.os_features.contains(f);
    (&want.os, &want.architecture, &want.variant) == (&image.os, &image.architecture, &image.variant)
        && image.os_features.iter().all(feature_ok)
        && version_runs(want, image.os_version.as_deref())
}

/// The variants that an arm64 machine runs, newest first: v9.x includes v8.(x+5).
fn arm64_chain(variant: &str) -> Vec<String> {
    let name =
        |major: u32, minor: u32| if minor == 0 { format!("v{major}") } else { format!("v{major}.{minor}") };
    let Some(rest) = variant.strip_prefix('v') else { return Vec::new() };
    let (major, minor) = match rest.split_once('.') {
        Some((a, b)) => (a.parse::<u32>(), b.parse::<u32>()),
        None => (rest.parse::<u32>(), Ok(0)),
    };
    match (major, minor) {
        (Ok(8), Ok(minor)) if minor <= 9 => (0..=minor).rev().map(|m| name(8, m)).collect(),
        (Ok(9), Ok(minor)) if minor <= 7 => {
            let old = (minor + 5).min(9);
            (0..=minor).rev().map(|m| name(9, m)).chain((0..=old).rev().map(|m| name(8, m))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p(text: &str) -> Platform {
        Platform::parse(text, &Platform::new("linux", "amd64")).unwrap()
    }

    #[test]
    fn parses_and_prints() {
        for (text, want) in [
            ("linux", "linux/amd64"),
            ("windows", "windows/amd64"),
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("armel", "linux/arm/v6"),
            ("armhf", "linux/arm"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/ARM/7", "linux/arm/v7"),
            ("linux/arm64/v8", "linux/arm64/v8"),
            ("linux/arm64/8", "linux/arm64/v8"),
            ("macos/arm64", "darwin/arm64"),
            ("windows(10.0.20348)/amd64", "windows(10.0.20348)/amd64"),
            ("windows(10.0.17763+win32k+b)/amd64", "windows(10.0.17763+b+win32k)/amd64"),
            ("strange/thing", "strange/thing"),
        ] {
            assert_eq!(p(text).to_string(), want, "{text}");
        }
        let host = Platform::new("linux", "amd64");
        for bad in [
            "",
            "*",
            "x",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/a b",
            "linux(1",
            "linux(1+)/x",
            "li nux/amd64",
        ] {
            assert!(Platform::parse(bad, &host).is_err(), "{bad}");
        }
    }

    #[test]
    fn fall_backs() {
        let best = |host: &str, images: &[&str]| {
            let m = p(host).matcher();
            let best = images.iter().filter_map(|i| Some((m.rank(&p(i))?, *i))).min();
            best.map(|(_, i)| i.to_string())
        };
        assert_eq!(
            best("linux/amd64", &["linux/386", "linux/amd64", "linux/arm64"]).as_deref(),
            Some("linux/amd64")
        );
        assert_eq!(best("linux/amd64", &["linux/386"]).as_deref(), Some("linux/386"));
        assert_eq!(best("linux/amd64", &["linux/amd64/v2"]), None);
        assert_eq!(
            best("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]).as_deref(),
            Some("linux/amd64/v2")
        );
        assert_eq!(
            best("linux/arm64", &["linux/arm/v6", "linux/arm64/v8"]).as_deref(),
            Some("linux/arm64/v8")
        );
        assert_eq!(best("linux/arm64", &["linux/arm/v6", "linux/arm"]).as_deref(), Some("linux/arm"));
        assert_eq!(best("linux/arm", &["linux/arm/v6", "linux/arm/v7"]).as_deref(), Some("linux/arm/v7"));
        assert_eq!(best("linux/arm/v6", &["linux/arm"]), None);
        assert_eq!(best("linux/arm64/v9", &["linux/arm64/v8.6"]), None);
        assert_eq!(
            best("linux/arm64/v9.1", &["linux/arm64/v8.6", "linux/arm64/v9"]).as_deref(),
            Some("linux/arm64/v9")
        );
        assert_eq!(best("linux/riscv64", &["linux/riscv64"]).as_deref(), Some("linux/riscv64"));
    }

    #[test]
    fn windows_versions_are_numbers() {
        let w = |v: &str| WindowsVersion::parse(v).unwrap();
        for (host, image, runs) in [
            ("10.0.14393.1", "10.0.14393.9999", true),
            ("10.0.17763", "10.0.14393", false),
            ("10.0.20348", "10.0.17763", false),
            ("10.0.20348.1", "10.0.20348.2", true),
            ("10.0.26100", "10.0.20348", true),
            ("10.0.22621", "10.0.20348", true),
            ("10.0.26200", "10.0.20348", false),
            ("10.0.26200", "10.0.26100", true),
            ("10.0.20348", "10.0.26100", false),
            ("11.0.26100", "10.0.26100", false),
        ] {
            assert_eq!(w(host).runs(w(image)), runs, "{host} {image}");
        }
        assert!(w("10.0.9200") < w("10.0.14393"));
        let any = p("windows/amd64").matcher();
        let mut images = [
            p("windows(10.0.9200.1)/amd64"),
            p("windows(10.0.20348.1)/amd64"),
            p("windows(10.0.14393)/amd64"),
        ];
        images.sort_by_key(|i| any.rank(i));
        assert_eq!(images[0].os_version.as_deref(), Some("10.0.20348.1"));
        assert!(p("windows(10.0.17763)/amd64").matcher().matches(&p("windows(10.0.17763.5+win32k)/amd64")));
        assert!(!p("linux/amd64").matcher().matches(&p("linux(+gpu)/amd64")));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in "[a-z0-9/().+%v]{0,24}|\\PC{0,12}") {
            if let Ok(p) = Platform::parse(&text, &Platform::new("linux", "amd64")) {
                let n = p.normalize();
                prop_assert_eq!(&n.normalize(), &n);
                prop_assert!(p.matcher().matches(&p));
            }
        }
    }
}
