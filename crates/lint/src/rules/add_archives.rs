//! DL3010: ADD extracts archives by itself.

use super::prelude::*;

pub(super) const RULE: Rule = Rule {
    name: "add-archives",
    aliases: &["DL3010"],
    group: Group::Hadolint,
    severity: Severity::Info,
    default: Default::On,
    summary: "ADD extracts archives by itself",
    why: "COPY and then extracting keeps the archive in a layer.",
    bad: r#"FROM alpine:3.20
COPY a.tar.gz /tmp/
RUN tar -xf /tmp/a.tar.gz
"#,
    good: r#"FROM alpine:3.20
ADD a.tar.gz /
"#,
    check,
};

fn check(cx: &Context<'_>, out: &mut Sink<'_>) {
    let name =
        |path: &str| path.trim_matches(['"', '\'']).rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    for stage in cx.stages() {
        let mut open: Vec<(String, TextRange)> = Vec::new();
        for node in cx.of_stage(stage.index).filter(|node| !node.onbuild) {
            match node.instruction {
                Instruction::Copy(copy) if copy.from.is_none() => {
                    let target = copy.transfer.dest.as_str();
                    let all: Vec<&str> = match super::shared::is_archive(target) {
                        true => vec![target],
                        false => copy
                            .transfer
                            .sources
                            .iter()
                            .map(Word::as_str)
                            .filter(|source| super::shared::is_archive(source))
                            .collect(),
                    };
                    open.extend(all.into_iter().map(|path| (name(path), node.located.keyword.range)));
                }
                Instruction::Run(_) => {
                    let Some((_, script)) = node.run() else { continue };
                    open.retain(|(archive, range)| {
                        let extracted = script.calls.iter().any(|call| {
                            extracts(call) && call.operands(&[]).iter().any(|arg| name(&arg.text) == *archive)
                        });
                        if extracted {
                            out.report(*range, format!("{archive} is extracted later: use ADD"));
                        }
                        !extracted
                    });
                }
                _ => {}
            }
        }
    }
}

fn extracts(call: &Call) -> bool {
    let tar = call.name == "tar"
        && call.args.iter().any(|arg| {
            arg.text == "--extract"
                || arg.text == "--get"
                || (arg.text.starts_with('-') && arg.text.contains('x'))
        });
    tar || ["unzip", "gunzip", "bunzip2", "unlzma", "unxz", "zgz", "uncompress", "zcat", "gzcat"]
        .contains(&call.name.as_str())
}
