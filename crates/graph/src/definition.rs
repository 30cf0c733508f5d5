//! Vertex ids: what a vertex *is*, before anything is known about contents.
//!
//! Two vertices with equal ids do the same thing to the same inputs. Local folders are known here only
//! by name; the solver's cache keys add the content.

use crate::op::*;
use crate::{Graph, Input, Selector, Vertex};
use digest::{StableHash, StableHasher, VertexId};

/// Schema of the hash: change it when the meaning of any op changes.
const DOMAIN: &str = "ctrbuild.vertex.v1";

/// Ids of all vertices, by index.
pub fn vertex_ids(graph: &Graph) -> Vec<VertexId> {
    let mut ids: Vec<VertexId> = Vec::with_capacity(graph.vertices.len());
    for v in &graph.vertices {
        let mut h = StableHasher::new(DOMAIN);
        v.stable_hash(&mut h);
        h.u64(v.inputs.len() as u64);
        for Input { edge, selector } in &v.inputs {
            h.put(&ids[edge.vertex.index()]).u64(u64::from(edge.output)).put(selector);
        }
        ids.push(VertexId::from_bytes(h.finish()));
    }
    ids
}

/// The op and the platform, without inputs.
impl StableHash for Vertex {
    fn stable_hash(&self, h: &mut StableHasher) {
        self.op.stable_hash(h);
        let p = &self.platform;
        h.put(&p.os).put(&p.architecture).put(&p.variant).put(&p.os_version).put(&p.os_features);
    }
}

impl StableHash for Selector {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            Selector::Whole => h.tag(0),
            Selector::Paths(paths) => h.tag(1).put(paths),
        };
    }
}

impl StableHash for PathSelector {
    fn stable_hash(&self, h: &mut StableHasher) {
        let PathSelector { path, wildcard, follow_links, include, exclude, required } = self;
        h.put(path).put(wildcard).put(follow_links).put(include).put(exclude).put(required);
    }
}

impl StableHash for Op {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            Op::Source(s) => h.tag(0).put(s),
            Op::Exec(e) => h.tag(1).put(&**e),
            Op::File(f) => h.tag(2).put(f),
            Op::Merge => h.tag(3),
        };
    }
}

impl StableHash for SourceOp {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            // Bytes are what the manifest says, wherever they come from.
            SourceOp::Image(ImageSource { manifest, reference: _, diff_ids: _, origin: _ }) => {
                h.tag(0).put(&manifest.digest)
            }
            SourceOp::Local(LocalSource { name }) => h.tag(1).put(name),
            SourceOp::Http(HttpSource { url, filename, checksum, mode, uid, gid }) => {
                h.tag(2).put(url).put(filename).put(checksum).put(mode).put(uid).put(gid)
            }
            SourceOp::Git(GitSource {
                remote,
                reference,
                subdir,
                keep_git_dir,
                checksum,
                submodules,
                fetch_by_commit,
                times,
            }) => h
                .tag(3)
                .put(remote)
                .put(reference)
                .put(subdir)
                .put(keep_git_dir)
                .put(checksum)
                .put(submodules)
                .put(fetch_by_commit)
                .tag(match times {
                    GitTimes::Checkout => 0,
                    GitTimes::Commit => 1,
                }),
        };
    }
}

fn index(h: &mut StableHasher, input: Option<usize>) {
    h.put(&input.map(|i| i as u64));
}

impl StableHash for ExecOp {
    fn stable_hash(&self, h: &mut StableHasher) {
        let ExecOp { root, args, env, cwd, user, hostname, network, security, mounts, secret_env, uncached } =
            self;
        index(h, *root);
        h.put(args).put(env).put(cwd).put(user).put(hostname);
        h.tag(*network as u8).tag(*security as u8).put(mounts);
        h.u64(secret_env.len() as u64);
        for SecretEnv { name, id, required } in secret_env {
            h.put(name).put(id).put(required);
        }
        let names: Vec<&String> = uncached.extra_hosts.iter().map(|(name, _)| name).collect();
        h.put(&names);
    }
}

impl StableHash for ExecMount {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.put(&self.target).put(&self.readonly);
        match &self.kind {
            MountKind::Bind { input, source } => {
                h.tag(0);
                index(h, *input);
                // The selector of the input already covers where in it the files are.
                h.put(&(source != "/"));
            }
            // The content of a cache mount never counts, nor does which cache it is.
            MountKind::Cache { id: _, sharing: _, input: _, source: _, owner } => {
                h.tag(1);
                match owner {
                    None => h.tag(0),
                    Some(o) => h.tag(1).put(&o.uid).put(&o.gid).put(&o.mode),
                };
            }
            MountKind::Tmpfs { size } => {
                h.tag(2).put(size);
            }
            MountKind::Secret { id, required, uid, gid, mode } => {
                h.tag(3).put(id).put(required).put(uid).put(gid).put(mode);
            }
            MountKind::Ssh { id, required, uid, gid, mode } => {
                h.tag(4).put(id).put(required).put(uid).put(gid).put(mode);
            }
        }
    }
}

impl StableHash for FileOp {
    fn stable_hash(&self, h: &mut StableHasher) {
        index(h, self.base);
        h.put(&self.actions);
    }
}

impl StableHash for FileAction {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            FileAction::Copy(CopyAction { from, dest, owner, mode, contents_only, unpack }) => {
                h.tag(0);
                match from {
                    CopyFrom::Input { input, selector } => {
                        h.tag(0);
                        index(h, Some(*input));
                        // Where the files were is in the input's selector; their last name can
                        // become part of the result.
                        let name = selector.path.rsplit('/').next().unwrap_or_default();
                        h.put(name).put(&selector.wildcard).put(&selector.follow_links);
                        h.put(&selector.include).put(&selector.exclude);
                    }
                    CopyFrom::Inline { name, data } => {
                        h.tag(1).put(name).bytes(data);
                    }
                }
                h.put(dest).put(owner).put(mode).put(contents_only).put(unpack);
            }
            FileAction::Mkdir(MkdirAction { path, mode, owner, time }) => {
                h.tag(1).put(path).put(mode).put(owner);
                // Left out where there is none, so that keys stay what they were.
                if let Some(time) = time {
                    h.tag(2).u64(*time as u64);
                }
            }
            FileAction::Mkfile(MkfileAction { path, mode, data }) => {
                h.tag(2).put(path).put(mode).bytes(data);
            }
        }
    }
}

impl StableHash for Owner {
    fn stable_hash(&self, h: &mut StableHasher) {
        h.put(&self.0);
    }
}

impl StableHash for Mode {
    fn stable_hash(&self, h: &mut StableHasher) {
        match self {
            Mode::Octal(m) => h.tag(0).put(m),
            Mode::Symbolic(s) => h.tag(1).put(s),
        };
    }
}
