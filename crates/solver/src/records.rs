//! What a solved graph has in the cache, for giving it to others.

use crate::solve::content_key;
use crate::{Executor, InputValue, SolveError, Solver, key};
use digest::CacheKey;
use graph::{Op, SourceOp, VertexRef};
use std::collections::BTreeMap;
use store::{OpHash, SnapshotId};

/// One vertex and what is known of its result.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub vertex: VertexRef,
    pub definition: CacheKey,
    /// Where the contents of all inputs are here.
    pub content: Option<CacheKey>,
    pub op: OpHash,
    /// The named parts of the definition key.
    pub parts: BTreeMap<String, String>,
    /// The stack of layers, lowest first; `None` if this store has no record of it.
    pub layers: Option<Vec<SnapshotId>>,
}

impl<E: Executor> Solver<E> {
    /// The executed vertices that `target` needs, inputs first, with what the store records of them. Sources
    /// are left out: whoever builds has them from where they come from. Executes nothing.
    pub async fn records(&self, target: VertexRef) -> Result<Vec<Recorded>, SolveError> {
        let mut out = Vec::new();
        for v in self.graph.reachable(target) {
            if !matches!(self.graph.get(v).op, Op::Exec(_) | Op::File(_)) {
                continue;
            }
            let definition = self.definition_key(v).await?;
            let (op, parts) = self.definition(v).await?;
            let layers = self.recorded(v).await?;
            let content = match (&layers, self.recorded_inputs(v).await?) {
                (Some(_), Some(inputs)) => {
                    Some(content_key(&*self.executor, &self.graph, v, &op, &parts, &inputs).await?)
                }
                _ => None,
            };
            let parts = key::named(&op, &parts);
            let op = OpHash::from_bytes(op);
            out.push(Recorded { vertex: v, definition, content, op, parts, layers });
        }
        Ok(out)
    }

    /// What the store records of a vertex.
    async fn recorded(&self, v: VertexRef) -> Result<Option<Vec<SnapshotId>>, SolveError> {
        if let Op::Merge = self.graph.get(v).op {
            let mut all = Vec::new();
            for input in &self.graph.get(v).inputs {
                match Box::pin(self.recorded(input.edge.vertex)).await? {
                    Some(layers) => all.extend(layers),
                    None => return Ok(None),
                }
            }
            return Ok(Some(all));
        }
        let key = self.definition_key(v).await?;
        Ok(self.probe(v, key)?.map(|s| s.layers))
    }

    async fn recorded_inputs(&self, v: VertexRef) -> Result<Option<Vec<InputValue>>, SolveError> {
        let mut out = Vec::new();
        for input in &self.graph.get(v).inputs {
            let from = input.edge.vertex;
            if let Op::Source(SourceOp::Local(_)) = self.graph.get(from).op {
                out.push(InputValue::Local(from));
                continue;
            }
            match self.recorded(from).await? {
                Some(layers) => out.push(InputValue::Layers(layers)),
                None => return Ok(None),
            }
        }
        Ok(Some(out))
    }
}
