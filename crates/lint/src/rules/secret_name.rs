//! DL3064: ARG and ENV should not have names of secrets.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "secret-name",
    aliases: &["DL3064"],
    group: Group::Hadolint,
    severity: Severity::Warning,
    default: Default::Off,
    summary: "ARG and ENV should not have names of secrets",
    why: "A wider net than SecretsUsedInArgOrEnv: known names of services, and any name with password, secret, token and the like in it.",
    bad: r#"FROM alpine:3.20
ENV MYPASSWORDS=a
"#,
    good: r#"FROM alpine:3.20
ENV MODE=a
"#,
    check,
};

const KNOWN: [&str; 20] = [
    "APPLICATION_KEY",
    "AWS_ACCESS_KEY_ID",
    "CF_USERNAME",
    "CI_DEPLOY_USER",
    "DOCKER_EMAIL",
    "FACEBOOK_APP_ID",
    "FOSSA_API_KEY",
    "HEROKU_API_KEY",
    "HEROKU_API_USER",
    "OKTA_AUTHN_GROUPID",
    "OKTA_CLIENT_ORGURL",
    "OKTA_OAUTH2_CLIENTID",
    "STRIPE_DEVICE_NAME",
    "TRAVIS_OS_NAME",
    "TRAVIS_SUDO",
    "VAULT_CLIENT_KEY",
    "OPENAI_API_KEY",
    "BITTREX_API_KEY",
    "STRIPE_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
];
const PARTS: [&str; 7] = ["api_key", "client_key", "password", "private", "secret", "token", "username"];

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let secret = |name: &str| {
        let lower = name.to_ascii_lowercase();
        KNOWN.contains(&name.to_ascii_uppercase().as_str()) || PARTS.iter().any(|part| lower.contains(part))
    };
    for arg in
        cx.parsed.recipe.meta_args.iter().flat_map(|node| &node.node.args).filter(|arg| secret(&arg.key))
    {
        out.report(arg.range, format!("ARG {} has the name of a secret", arg.key));
    }
    for node in &cx.nodes {
        let found: Vec<(&str, TextRange)> = match node.instruction {
            Instruction::Arg(arg) => arg.args.iter().map(|arg| (arg.key.as_str(), arg.range)).collect(),
            Instruction::Env(env) => env.pairs.iter().map(|pair| (pair.key.as_str(), pair.range)).collect(),
            _ => continue,
        };
        if let Some((name, range)) = found.into_iter().find(|(name, _)| secret(name)) {
            out.report(range, format!("{} {name} has the name of a secret", node.instruction.name()));
        }
    }
}
