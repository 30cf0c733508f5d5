//! Certificates and signatures should be checked.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "unverified-download",
    aliases: &[],
    group: Group::Own,
    severity: Severity::Warning,
    default: Default::On,
    summary: "Certificates and signatures should be checked",
    why: "Without the check anybody on the way can put something else in place of what is fetched.",
    bad: r#"FROM debian:12
RUN curl -k https://example.com/a
"#,
    good: r#"FROM debian:12
RUN curl -f https://example.com/a
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    for (node, call) in cx.calls() {
        let name = call.name.rsplit('/').next().unwrap_or(&call.name);
        let package = ["apt", "apt-get", "yum", "dnf", "microdnf", "zypper", "apk"].contains(&name);
        let wrong = call.args.iter().find(|arg| {
            let text = arg.text.as_str();
            let short = |c: char| text.starts_with('-') && !text.starts_with("--") && text.contains(c);
            match name {
                "curl" => text == "--insecure" || (short('k') && !text.contains('o') && text.len() <= 6),
                "wget" => text == "--no-check-certificate",
                "git" => text.contains("sslVerify=false") || text.contains("sslVerify=0"),
                "npm" | "yarn" | "pnpm" => text == "--strict-ssl=false",
                _ if name.starts_with("pip") || name.starts_with("python") => {
                    text == "--trusted-host" || text.starts_with("--trusted-host=")
                }
                _ if package => {
                    let weak = [
                        "--nogpgcheck",
                        "--allow-untrusted",
                        "--force-yes",
                        "--allow-unauthenticated",
                        "--no-gpg-checks",
                        "--allow-insecure-repositories",
                    ];
                    weak.contains(&text) || text == "AllowUnauthenticated=true"
                }
                _ => false,
            }
        });
        let set =
            call.has_sequence(&["http.sslVerify", "false"]) || call.has_sequence(&["strict-ssl", "false"]);
        match wrong {
            Some(arg) => {
                out.report(node.place(arg.span), format!("{} turns a check off", arg.text));
            }
            None if set && ["git", "npm", "yarn", "pnpm"].contains(&name) => {
                out.report(node.place(call.span), "certificates are not checked any more");
            }
            None => {}
        }
    }
    for node in &cx.nodes {
        let Instruction::Env(env) = node.instruction else { continue };
        for pair in &env.pairs {
            let value = pair.value.trim_matches(['"', '\'']);
            let off = match pair.key.as_str() {
                "NODE_TLS_REJECT_UNAUTHORIZED" | "PYTHONHTTPSVERIFY" => value == "0",
                "GIT_SSL_NO_VERIFY" => matches!(value, "1" | "true"),
                "NPM_CONFIG_STRICT_SSL" | "npm_config_strict_ssl" => value == "false",
                _ => false,
            };
            if off {
                out.report(pair.range, format!("{} turns the check of certificates off", pair.key));
            }
        }
    }
}
