//! Flags of `docker build` that mean nothing here, or not yet, so that its command lines can be used as they are.

use clap::Args;
use ctrbuild::{Error, ErrorKind};

#[derive(Debug, Clone, Args)]
pub struct DockerArgs {
    /// Attestations of an image; only `false` so far
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub provenance: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub sbom: Option<String>,
    #[arg(long, hide = true)]
    pub attest: Vec<String>,
    /// What docker does always, or what BuildKit ignores as well
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub rm: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub force_rm: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub compress: Option<String>,
    #[arg(long, hide = true)]
    pub isolation: Option<String>,
    #[arg(long, hide = true)]
    pub security_opt: Vec<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    #[arg(short, long, hide = true)]
    pub cpu_shares: Option<String>,
    #[arg(long, hide = true)]
    pub cpu_period: Option<String>,
    #[arg(long, hide = true)]
    pub cpu_quota: Option<String>,
    #[arg(long, hide = true)]
    pub cpuset_cpus: Option<String>,
    #[arg(long, hide = true)]
    pub cpuset_mems: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, hide = true)]
    pub squash: Option<String>,
}

impl DockerArgs {
    /// Refuse what is asked for and not done; give the warnings about what is left out.
    pub fn check(&self) -> Result<Vec<String>, Error> {
        let off = |text: &str| {
            let fields = || text.split(',').map(str::trim);
            matches!(text, "false" | "0")
                || fields().any(|f| matches!(f, "disabled=true" | "disabled=1" | "disabled"))
        };
        let asked = [("provenance", &self.provenance), ("sbom", &self.sbom)];
        let asked = asked.iter().filter_map(|(flag, value)| value.as_ref().map(|v| (*flag, v)));
        for (flag, value) in asked.chain(self.attest.iter().map(|v| ("attest", v))) {
            if !off(value) {
                let message = format!("--{flag}={value}: attestations can't be made yet");
                let hint = match flag {
                    "attest" => "leave the flag out, or add disabled=true".to_string(),
                    flag => format!("leave the flag out, or write --{flag}=false"),
                };
                return Err(Error::new(ErrorKind::Recipe, message).hint(hint));
            }
        }
        let truth = |value: &Option<String>| value.as_deref().is_some_and(|v| !matches!(v, "false" | "0"));
        let default =
            |value: &Option<String>| value.as_deref().is_none_or(|v| matches!(v, "" | "default" | "process"));
        let ignored = [
            ("compress", truth(&self.compress), "contexts are not sent anywhere"),
            ("isolation", !default(&self.isolation), "it is for Windows hosts"),
            (
                "security-opt",
                !self.security_opt.is_empty(),
                "steps are always confined; see --allow security.insecure",
            ),
            ("memory-swap", self.memory_swap.is_some(), "see --memory"),
            ("cpu-shares", self.cpu_shares.is_some(), "see --cpus"),
            ("cpu-period", self.cpu_period.is_some(), "see --cpus"),
            ("cpu-quota", self.cpu_quota.is_some(), "see --cpus"),
            ("cpuset-cpus", self.cpuset_cpus.is_some(), "see --cpus"),
            ("cpuset-mems", self.cpuset_mems.is_some(), "see --cpus"),
            ("squash", truth(&self.squash), "copy the files to a last stage FROM scratch instead"),
        ];
        let warnings = ignored.iter().filter(|(_, given, _)| *given);
        Ok(warnings.map(|(flag, _, why)| format!("--{flag} has no effect: {why}")).collect())
    }
}
