//! Limits of certain steps: which steps a caller means.
//!
//! The caller chooses, not the recipe: recipes are strangers', and BuildKit's language has no word for it.

use crate::PlanError;
use crate::suggest::nearest;
use graph::StepLimits;
use std::collections::BTreeSet;

/// Steps of a stage: all its RUNs, or the one with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSelector {
    /// Name, or number from 0 on, as COPY `--from` has it.
    pub stage: String,
    /// Number from 1 on, as progress shows it: 2 of `[build 2/5]`.
    pub step: Option<usize>,
}

impl StepSelector {
    /// Whether a stage is meant by its name or its place in the recipe.
    pub(crate) fn means(&self, name: &str, index: usize) -> bool {
        self.stage.eq_ignore_ascii_case(name) || self.stage.parse() == Ok(index)
    }
}

/// The limits for one stage while it is lowered.
#[derive(Default)]
pub(crate) struct StageLimits {
    /// Step, limits, place in the caller's list.
    selected: Vec<(Option<usize>, StepLimits, usize)>,
    /// Those that a step got.
    used: BTreeSet<usize>,
}

impl StageLimits {
    pub(crate) fn of(all: &[(StepSelector, StepLimits)], name: &str, index: usize) -> Self {
        let selected = all.iter().enumerate().filter(|(_, (selector, _))| selector.means(name, index));
        let selected = selected.map(|(place, (selector, limits))| (selector.step, limits.clone(), place));
        StageLimits { selected: selected.collect(), used: BTreeSet::new() }
    }

    /// The limits of the RUN that is this step of the stage.
    pub(crate) fn for_step(&mut self, step: usize, general: &StepLimits) -> StepLimits {
        let mut limits = general.clone();
        for (wanted, own, place) in &self.selected {
            if wanted.is_none_or(|wanted| wanted == step) {
                limits = own.clone().over(&limits);
                self.used.insert(*place);
            }
        }
        limits
    }

    /// A number that no RUN of the stage has is a mistake.
    pub(crate) fn check(&self, stage: &str) -> Result<(), PlanError> {
        let unused =
            self.selected.iter().find_map(|(step, _, place)| step.filter(|_| !self.used.contains(place)));
        match unused {
            None => Ok(()),
            Some(step) => {
                Err(PlanError::new(format!("step {step} of stage {stage} is no RUN, but has limits"))
                    .hint("progress shows the number of a step: 2 of `[build 2/5] RUN …`"))
            }
        }
    }
}

/// Every stage that limits are for must be there.
pub(crate) fn check_stages<'a>(
    all: &[(StepSelector, StepLimits)],
    stages: impl Iterator<Item = &'a str> + Clone,
) -> Result<(), PlanError> {
    let unknown = all.iter().find(|(s, _)| !stages.clone().enumerate().any(|(n, name)| s.means(name, n)));
    let Some((StepSelector { stage, .. }, _)) = unknown else { return Ok(()) };
    let hint = match nearest(stage, stages.clone()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the recipe has {}", stages.collect::<Vec<_>>().join(", ")),
    };
    Err(PlanError::new(format!("there is no stage {stage:?} to limit")).hint(hint))
}
