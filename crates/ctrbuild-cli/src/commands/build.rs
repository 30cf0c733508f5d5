//! `ctrbuild build`, also `ctrbuild .`.

use super::build_limits;
use super::call::{self, Call};
use crate::args::{BuildArgs, Global, ProgressMode};
use crate::{machine, progress, render};
use ctrbuild::{
    Annotations, BuildOutput, BuildRequest, CacheSource, CacheTarget, ContextSpec, Error, ErrorKind,
    GitSettings, MainContext, Output, OutputKind, PullPolicy, Recipe, RemoteFiles, SecretSource, Session,
    SshSettings,
};
use oci::{Platform, Reference};
use plan::{Entitlement, NoCache};
use solver::CacheMode;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Builds whose logs are kept.
const KEPT_LOGS: usize = 50;

pub fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Recipe, message)
}

pub fn run(global: &Global, args: &BuildArgs) -> Result<ExitCode, Error> {
    let (call, format) = match args.check {
        true => (Call::Check, call::Format::Text),
        false => Call::parse(&args.call)?,
    };
    if call != Call::Build {
        let recipe = recipe(global, args)?;
        return match call {
            Call::Check => super::check::run(&recipe, args.context.as_deref()),
            _ => call::run(call, format, args, &recipe),
        };
    }
    let session = machine::session(global)?;
    let request = request(&session, args)?;
    let mode = if args.quiet { ProgressMode::Quiet } else { args.progress };
    let observer = progress::Recorder::new(progress::observer(mode));
    let outcome = super::wait(ctrbuild::build(&session, &request, &observer));
    let steps = observer.steps();
    // A live terminal takes back what it drew.
    drop(observer);
    match outcome {
        Ok(Ok(built)) => {
            let code = finish(args, &request, &built, steps)?;
            tidy(&session);
            Ok(code)
        }
        Ok(Err(code)) => Ok(code),
        Err(e) => {
            render::failure(&e, Some(&request.recipe));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Give space back where the disk or the limits (`CTRBUILD_KEEP_STORAGE`, `CTRBUILD_KEEP_FREE`) ask for it. Never fails
/// a build.
fn tidy(session: &Session) {
    let size = |name: &str| {
        let text = std::env::var(name).ok().filter(|t| !t.is_empty())?;
        let size = machine::bytes(&text);
        if size.is_none() {
            eprintln!("warning: {name}={text:?} is no size such as 20g, and is ignored");
        }
        size
    };
    let limits = ctrbuild::housekeeping::Limits {
        keep_bytes: size("CTRBUILD_KEEP_STORAGE"),
        free_bytes: size("CTRBUILD_KEEP_FREE"),
    };
    match ctrbuild::housekeeping::tidy(&session.store, limits) {
        Ok(0) => {}
        Ok(freed) => eprintln!("note: {} of unused cache were removed", crate::table::size(freed)),
        Err(e) => eprintln!("note: the store could not be tidied: {e}"),
    }
}

/// Ids on standard output and in the files that were asked for.
fn finish(
    args: &BuildArgs,
    request: &BuildRequest,
    built: &BuildOutput,
    steps: Vec<serde_json::Value>,
) -> Result<ExitCode, Error> {
    let content = built.published();
    let configs: Vec<digest::Digest> = content.manifests().iter().map(|m| m.value.config.digest).collect();
    // One image is known by its configuration, as docker knows it; several by their index.
    let id = match configs.as_slice() {
        [only] => *only,
        _ => content.digest(),
    };
    let write = |path: &PathBuf, text: String| {
        std::fs::write(path, text).map_err(|e| Error::world(format!("can't write {}: {e}", path.display())))
    };
    if let Some(path) = &args.iidfile {
        write(path, id.to_string())?;
    }
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = request.names.iter().map(Reference::to_string).collect();
        let descriptor = content.top.descriptor();
        let mut metadata = serde_json::json!({
            "containerimage.digest": content.digest(),
            "containerimage.descriptor": descriptor,
            "ctrbuild.steps": steps,
        });
        if let [config] = configs.as_slice() {
            metadata["containerimage.config.digest"] = serde_json::json!(config);
        }
        if !names.is_empty() {
            metadata["image.name"] = names.join(",").into();
        }
        write(path, format!("{metadata:#}\n"))?;
    }
    if request.outputs.iter().any(Output::uses_stdout) {
        return Ok(ExitCode::SUCCESS);
    }
    if args.quiet {
        println!("{id}");
        return Ok(ExitCode::SUCCESS);
    }
    if args.progress != ProgressMode::Quiet {
        for name in &request.names {
            eprintln!("naming to {name}");
        }
    }
    println!("{}", content.digest());
    Ok(ExitCode::SUCCESS)
}

/// `NAME=VALUE` pairs; without `=` the value comes from the environment.
pub fn pairs(args: &[String], what: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut out = BTreeMap::new();
    for arg in args {
        match arg.split_once('=') {
            Some((name, value)) => {
                out.insert(name.to_string(), value.to_string());
            }
            None if what == "build-arg" => {
                if let Ok(value) = std::env::var(arg) {
                    out.insert(arg.clone(), value);
                }
            }
            None => {
                out.insert(arg.clone(), String::new());
            }
        }
    }
    if out.contains_key("") {
        return Err(usage(format!("--{what} needs a name before `=`")));
    }
    Ok(out)
}

fn secrets(args: &[String]) -> Result<BTreeMap<String, SecretSource>, Error> {
    let mut out = BTreeMap::new();
    for arg in args {
        let wrong = |m: &str| {
            usage(format!("invalid --secret {arg:?}: {m}"))
                .hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE")
        };
        let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
        for field in arg.split(',') {
            match field.split_once('=') {
                Some(("id", v)) => id = Some(v.to_string()),
                Some(("src" | "source", v)) => file = Some(PathBuf::from(v)),
                Some(("env", v)) => env = Some(v.to_string()),
                Some(("type", v @ ("file" | "env"))) => kind = Some(v.to_string()),
                _ => return Err(wrong(&format!("{field:?} is not known"))),
            }
        }
        let id = id.filter(|i| !i.is_empty()).ok_or_else(|| wrong("id is missing"))?;
        let from_env = |name: &str| std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec);
        let source = match (file, env, kind.as_deref()) {
            (Some(_), Some(_), _) => return Err(wrong("src and env exclude each other")),
            (Some(file), None, Some("env")) => from_env(&file.to_string_lossy()).map(SecretSource::Value),
            (Some(file), None, _) => {
                // Found out now, not after a long build.
                if let Err(e) = std::fs::metadata(&file) {
                    return Err(wrong(&format!("{}: {e}", file.display())));
                }
                Some(SecretSource::File(std::path::absolute(&file).unwrap_or(file)))
            }
            (None, Some(name), _) => from_env(&name).map(SecretSource::Value),
            // As docker: the variable of that name, else a file.
            (None, None, _) => from_env(&id)
                .map(SecretSource::Value)
                .or_else(|| std::path::absolute(&id).ok().filter(|p| p.is_file()).map(SecretSource::File)),
        };
        if let Some(source) = source {
            out.insert(id, source);
        }
    }
    Ok(out)
}

/// `default`, `ID`, `ID=PATH[,PATH…]`; without a path it is the agent of the environment.
fn ssh_agents(args: &[String]) -> Result<BTreeMap<String, worker::SshAgent>, Error> {
    let mut out = BTreeMap::new();
    for arg in args {
        let (id, paths) = arg.split_once('=').unwrap_or((arg, ""));
        let id = if id.is_empty() { "default" } else { id };
        let mut paths: Vec<PathBuf> = paths.split(',').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
        if paths.is_empty() {
            let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).ok_or_else(|| {
                usage(format!("--ssh {arg}: SSH_AUTH_SOCK is not set"))
                    .hint(format!("start an ssh-agent, or name its socket or a key: --ssh {id}=PATH"))
            })?;
            paths.push(socket.into());
        }
        // Found out now, not after a long build.
        let agent = worker::SshAgent::open(&paths).map_err(|e| Error::from(&e))?;
        if out.insert(id.to_string(), agent).is_some() {
            return Err(usage(format!("--ssh {id} is given twice")));
        }
    }
    Ok(out)
}

fn allow_net(places: &[String]) -> Result<Option<worker::AllowList>, Error> {
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    if places.is_empty() {
        return Ok(None);
    }
    let list = worker::AllowList::try_from(places.as_slice());
    list.map(Some).map_err(|e| usage(format!("invalid --allow-net: {e}")).hint(e.hint()))
}

/// Everything that the arguments, the environment and the context say.
pub fn request(session: &Session, args: &BuildArgs) -> Result<BuildRequest, Error> {
    for warning in args.docker.check()? {
        eprintln!("warning: {warning}");
    }
    let secrets = secrets(&args.secret)?;
    let remote = RemoteFiles::new(session, secrets.clone(), git_settings(git_agent(args)));
    let (context, recipe) = context(session, &remote, args)?;
    let mut names: Vec<Reference> = Vec::new();
    for tag in &args.tag {
        let name = ctrbuild::images::parse_name(tag)?;
        if name.digest().is_some() {
            return Err(usage(format!("invalid tag {tag:?}: it has a digest")));
        }
        names.push(name);
    }
    let mut platforms: Vec<Platform> = Vec::new();
    for text in args.platform.iter().filter(|p| !p.is_empty()) {
        let platform = match text.as_str() {
            "local" => session.host.clone(),
            text => Platform::parse(text, &session.host).map_err(|e| usage(e.to_string()).hint(e.hint()))?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    let allow = args
        .allow
        .iter()
        .map(|a| {
            Entitlement::parse(a).ok_or_else(|| {
                usage(format!("--allow {a:?} is not known")).hint("network.host or security.insecure")
            })
        })
        .collect::<Result<_, _>>()?;
    let (network, default_network) = super::build_network::parse(&args.network)?;
    let mut hosts = Vec::new();
    for host in &args.add_host {
        let (name, address) = host
            .split_once(['=', ':'])
            .filter(|(n, a)| !n.is_empty() && !a.is_empty())
            .ok_or_else(|| usage(format!("--add-host {host:?} is not HOST:ADDRESS")))?;
        let address = match address {
            // Steps that have the host's network reach the host itself.
            "host-gateway" if args.network.starts_with("isolated") => {
                return Err(usage("--add-host can't name host-gateway in a network of its own")
                    .hint("give the address of this machine"));
            }
            "host-gateway" => "127.0.0.1",
            address => address,
        };
        let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        // It becomes a line of /etc/hosts, where blanks, `#` and line ends would mean more.
        let odd = |c: char| !(c.is_alphanumeric() || matches!(c, '-' | '.' | '_'));
        if address.parse::<std::net::IpAddr>().is_err() || name.contains(odd) {
            return Err(usage(format!("--add-host {host:?} is not HOST:ADDRESS")));
        }
        hosts.push((name.to_string(), address.to_string()));
    }
    if let Some(server) = args.dns.iter().find(|s| s.parse::<std::net::IpAddr>().is_err()) {
        return Err(usage(format!("--dns {server:?} is not an address")));
    }
    let mut outputs = args.output.iter().map(|o| Output::parse(o)).collect::<Result<Vec<_>, _>>()?;
    if args.push {
        outputs.push(Output::parse("type=registry")?);
    }
    if args.load || (outputs.is_empty() && !names.is_empty()) {
        outputs.push(Output::store());
    }
    let annotations = Annotations::parse(&args.annotation, &session.host)?;
    if outputs.is_empty() && !annotations.is_empty() {
        outputs.push(Output::store());
    }
    for output in &mut outputs {
        output.annotations.extend(annotations.clone());
    }
    let pushes =
        outputs.iter().any(|o| matches!(o.kind, OutputKind::Image { push: true }) && o.names.is_empty());
    if pushes && names.is_empty() {
        return Err(usage("there is no name to push to").hint("name the image with -t HOST/NAME:TAG"));
    }
    if let Some(folder) = &args.on_fail_export {
        // Found out now, not after a long build.
        worker::must_be_empty(folder).map_err(|e| Error::from(&e))?;
    }
    let logs = worker::LogDir(session.store.root().join("logs").join(log_name()));
    logs.prune(KEPT_LOGS);
    let mut build_args = pairs(&args.build_args, "build-arg")?;
    // As buildx: the environment's epoch counts unless an argument says otherwise.
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH")
        && !epoch.is_empty()
    {
        build_args.entry("SOURCE_DATE_EPOCH".into()).or_insert(epoch);
    }
    let plan = plan::Request {
        build_platform: session.host.clone(),
        target: args.target.clone().filter(|t| !t.is_empty()),
        build_args,
        labels: pairs(&args.label, "label")?,
        network,
        extra_hosts: hosts,
        limits: build_limits::general(args)?,
        step_limits: args.step_limit.iter().map(|l| build_limits::of_step(l)).collect::<Result<_, _>>()?,
        no_cache: match (args.no_cache, args.no_cache_filter.as_slice()) {
            (true, _) => NoCache::All,
            (false, []) => NoCache::UseCache,
            (false, stages) => NoCache::Stages(stages.iter().cloned().collect()),
        },
        allow,
        ..plan::Request::default()
    };
    Ok(BuildRequest {
        context,
        recipe,
        contexts: pairs(&args.build_context, "build-context")?,
        plan,
        platforms,
        secrets,
        names,
        outputs,
        pull: pull_policy(args.pull.as_deref())?,
        cache: if args.no_cache { CacheMode::Ignore } else { CacheMode::Use },
        cache_from: args.cache_from.iter().map(|c| CacheSource::parse(c)).collect::<Result<_, _>>()?,
        cache_to: args.cache_to.iter().map(|c| CacheTarget::parse(c)).collect::<Result<_, _>>()?,
        isolation: worker::Isolation {
            default_network,
            dns: args.dns.clone(),
            logs: Some(logs),
            ssh: ssh_agents(&args.ssh)?,
            fail_export: args.on_fail_export.clone(),
            allow_net: allow_net(&args.allow_net)?,
        },
        parallel: args.jobs.unwrap_or_else(machine::processors).max(1),
        remote: Arc::new(remote),
        runtime: runtime(),
    })
}

/// How the sandbox is started.
pub fn runtime() -> ctrbuild::Runtime {
    Arc::new(|| {
        sandbox::Runtime::new()
            .map_err(|e| solver::ErrorKind::Other { message: ctrbuild::chain(&e), hint: e.hint() })
    })
}

/// What `--pull` says.
pub fn pull_policy(text: Option<&str>) -> Result<PullPolicy, Error> {
    Ok(match text {
        None | Some("false" | "missing") => PullPolicy::IfMissing,
        Some("true" | "always") => PullPolicy::Always,
        Some("never") => PullPolicy::Never,
        Some(other) => {
            return Err(usage(format!("--pull={other} is not known")).hint("true, false or never"));
        }
    })
}

/// A folder of its own for the logs of this build; names sort by time.
fn log_name() -> String {
    format!("{}-{}", crate::table::now(), std::process::id())
}

/// The recipe alone. The store is opened only where the context has to be fetched.
fn recipe(global: &Global, args: &BuildArgs) -> Result<Recipe, Error> {
    let file = args.file.as_deref();
    if let Some(text) = &args.context
        && let MainContext::Folder(folder) = MainContext::parse(text)?
        && file.is_none_or(|f| f.as_os_str() != "-")
    {
        return Recipe::find(&ContextSpec::Folder(folder), file);
    }
    let session = machine::session(global)?;
    let remote = RemoteFiles::new(&session, secrets(&args.secret)?, git_settings(git_agent(args)));
    Ok(context(&session, &remote, args)?.1)
}

fn context(
    session: &Session,
    remote: &RemoteFiles,
    args: &BuildArgs,
) -> Result<(ContextSpec, Recipe), Error> {
    let Some(context) = &args.context else {
        return Err(
            usage("the build context is missing").hint("name the folder of the project: `ctrbuild .`")
        );
    };
    let file = args.file.as_deref();
    let mut context = MainContext::parse(context)?;
    if let MainContext::Git(git) = &mut context
        && args.build_args.iter().any(|a| a == "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    {
        git.keep_git_dir = true;
    }
    if let MainContext::Git(git) = &mut context
        && (args.build_args.iter().any(|a| a.starts_with("SOURCE_DATE_EPOCH"))
            || std::env::var_os("SOURCE_DATE_EPOCH").is_some())
    {
        // When files were written must not show.
        git.times = graph::GitTimes::Commit;
    }
    if file.is_some_and(|f| f.as_os_str() == "-") {
        if context == MainContext::Stdin {
            return Err(usage("standard input can't be both the build context and the recipe"));
        }
        let text = stdin_text()?;
        let spec = now_or_wait(context, |c| async { c.load_files(session, remote).await })?;
        return Ok((spec, Recipe { name: "Dockerfile".into(), text, path: None }));
    }
    now_or_wait(context, |c| async { c.load(session, remote, file, std::io::stdin()).await })
}

/// Load a context, here and now.
fn now_or_wait<T, F>(context: MainContext, load: impl FnOnce(MainContext) -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    match super::wait(load(context))? {
        Ok(loaded) => Ok(loaded),
        // By a signal, which was said already and which is the exit code (`ended_by_signal`).
        Err(_) => Err(Error::world("cancelled")),
    }
}

/// The agent for git over ssh: that of `--ssh default`, or of the environment for a context that is reached
/// by ssh, which the user has named.
fn git_agent(args: &BuildArgs) -> Option<PathBuf> {
    let of_environment = || std::env::var_os("SSH_AUTH_SOCK").filter(|s| !s.is_empty()).map(PathBuf::from);
    for arg in &args.ssh {
        match arg.split_once('=').unwrap_or((arg, "")) {
            ("default" | "", "") => return of_environment(),
            ("default" | "", path) => return Some(PathBuf::from(path)),
            _ => {}
        }
    }
    match args.context.as_deref().map(MainContext::parse) {
        Some(Ok(MainContext::Git(git))) if !git.remote.starts_with("http") => of_environment(),
        _ => None,
    }
}

/// What git takes from the environment.
pub fn git_settings(agent: Option<PathBuf>) -> GitSettings {
    let proxies = ["http_proxy", "https_proxy", "all_proxy", "no_proxy"]
        .iter()
        .flat_map(|n| [n.to_string(), n.to_ascii_uppercase()])
        .filter_map(|n| std::env::var(&n).ok().filter(|v| !v.is_empty()).map(|v| (n, v)));
    let known_hosts = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".ssh/known_hosts"));
    GitSettings {
        path: std::env::var_os("PATH").unwrap_or_default(),
        proxies: proxies.collect(),
        authorities: std::env::var_os("SSL_CERT_FILE").map(PathBuf::from),
        ssh: SshSettings {
            agent,
            known_hosts: known_hosts.into_iter().chain(["/etc/ssh/ssh_known_hosts".into()]).collect(),
        },
        ..GitSettings::default()
    }
}

fn stdin_text() -> Result<String, Error> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(16 << 20)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::world(format!("can't read standard input: {e}")))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
