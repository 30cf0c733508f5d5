//! Limits of `ctrbuild build`: flags for all steps, and `--step-limit` for certain ones.

use super::build::usage;
use crate::args::BuildArgs;
use crate::machine;
use ctrbuild::Error;
use graph::{StepLimits, Ulimit};
use plan::StepSelector;

/// The limits of all steps.
pub fn general(args: &BuildArgs) -> Result<StepLimits, Error> {
    let mut limits = StepLimits::default();
    let given = [
        ("memory", &args.memory),
        ("cpus", &args.cpus),
        ("pids-limit", &args.pids_limit),
        ("shm-size", &args.shm_size),
        ("cgroup-parent", &args.cgroup_parent),
        ("step-timeout", &args.step_timeout),
        ("step-retries", &args.step_retries),
    ];
    for (flag, value) in given {
        if let Some(value) = value {
            set(&mut limits, flag, value, &format!("--{flag} {value:?}"))?;
        }
    }
    for value in &args.ulimit {
        set(&mut limits, "ulimit", value, &format!("--ulimit {value:?}"))?;
    }
    Ok(limits)
}

/// `stage=NAME[,step=N],memory=2g,…`.
pub fn of_step(text: &str) -> Result<(StepSelector, StepLimits), Error> {
    let wrong = |what: String| {
        usage(format!("invalid --step-limit {text:?}: {what}"))
            .hint("write stage=NAME[,step=NUMBER],memory=2g,cpus=1.5,pids-limit=100,timeout=600,retries=1")
    };
    let (mut stage, mut step) = (None, None);
    let mut limits = StepLimits::default();
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or_else(|| wrong(format!("{field:?} is not KEY=VALUE")))?;
        match key {
            "stage" if !value.is_empty() => stage = Some(value.to_string()),
            "step" => {
                let number = value.parse().ok().filter(|n| *n > 0);
                step = Some(number.ok_or_else(|| wrong(format!("{value:?} is not the number of a step")))?);
            }
            "memory" | "cpus" | "pids-limit" | "shm-size" | "ulimit" | "cgroup-parent" => {
                set(&mut limits, key, value, &format!("{key}={value:?} of --step-limit"))?;
            }
            "timeout" | "retries" => {
                set(&mut limits, &format!("step-{key}"), value, &format!("{key}={value:?} of --step-limit"))?;
            }
            _ => return Err(wrong(format!("{field:?} is not known"))),
        }
    }
    let stage = stage.ok_or_else(|| wrong("stage is missing".into()))?;
    if limits == StepLimits::default() {
        return Err(wrong("it limits nothing".into()));
    }
    Ok((StepSelector { stage, step }, limits))
}

/// Sets one limit; `place` is where it was given. 0 and -1 mean no limit.
fn set(limits: &mut StepLimits, flag: &str, value: &str, place: &str) -> Result<(), Error> {
    let size = || {
        let size = machine::bytes(if value == "-1" { "0" } else { value });
        size.ok_or_else(|| usage(format!("{place} is no size")).hint("write 512m or 2g"))
    };
    let number = |what: &str| match value {
        "-1" => Ok(0),
        value => value.parse::<u64>().map_err(|_| usage(format!("{place} is no number of {what}"))),
    };
    match flag {
        "memory" => limits.memory = Some(size()?),
        "shm-size" => limits.shm_size = Some(size()?),
        "cpus" => {
            let cpus = value.parse::<f64>().ok().filter(|c| c.is_finite() && (0.0..1e6).contains(c));
            let cpus = cpus
                .ok_or_else(|| usage(format!("{place} is no number of processors")).hint("write 2 or 1.5"))?;
            // The smallest share that can be had is not none at all.
            limits.cpu_millis = Some(if cpus > 0.0 { ((cpus * 1000.0) as u64).max(1) } else { 0 });
        }
        "pids-limit" => limits.pids = Some(number("processes")?),
        "step-timeout" => limits.timeout = Some(number("seconds")?),
        "step-retries" => {
            let retries = u32::try_from(number("attempts")?);
            limits.retries = Some(retries.map_err(|_| usage(format!("{place} is no number of attempts")))?);
        }
        "cgroup-parent" => {
            // A path that climbs or has nothing in it says something else than it means.
            let parts = || value.split('/').filter(|p| !p.is_empty());
            if parts().any(|p| p == ".." || p == ".") || value.is_empty() || value.contains(char::is_control)
            {
                return Err(usage(format!("{place} is no path of a cgroup"))
                    .hint("write the path from the root of the hierarchy on, such as /builds"));
            }
            limits.cgroup_parent = Some(value.to_string());
        }
        _ => limits.ulimits.push(ulimit(value, place)?),
    }
    Ok(())
}

fn ulimit(text: &str, place: &str) -> Result<Ulimit, Error> {
    let wrong = || usage(format!("{place} is not NAME=SOFT[:HARD]"));
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    if !sandbox::Ulimit::NAMES.contains(&name) {
        return Err(usage(format!("{place}: there is no limit {name:?}"))
            .hint(format!("use one of {}", sandbox::Ulimit::NAMES.join(", "))));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let number = |s: &str| match s {
        "-1" | "unlimited" => Some(u64::MAX),
        s => s.parse().ok(),
    };
    let (soft, hard) = (number(soft).ok_or_else(wrong)?, number(hard).ok_or_else(wrong)?);
    if soft > hard {
        return Err(usage(format!("{place}: the soft limit is above the hard one")));
    }
    Ok(Ulimit { name: name.to_string(), soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_steps() {
        let (selector, limits) = of_step(
            "stage=build,step=2,memory=1g,cpus=1.5,pids-limit=-1,ulimit=nofile=10:20,timeout=60,retries=2",
        )
        .unwrap();
        assert_eq!(selector, StepSelector { stage: "build".into(), step: Some(2) });
        let expected = StepLimits {
            memory: Some(1 << 30),
            cpu_millis: Some(1500),
            pids: Some(0),
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 10, hard: 20 }],
            timeout: Some(60),
            retries: Some(2),
            ..StepLimits::default()
        };
        assert_eq!(limits, expected);
        assert_eq!(of_step("stage=0,cpus=0.0001").unwrap().1.cpu_millis, Some(1));
    }

    #[test]
    fn mistakes() {
        for (text, expected) in [
            ("memory=1g", "stage is missing"),
            ("stage=,memory=1g", "\"stage=\" is not known"),
            ("stage=a", "it limits nothing"),
            ("stage=a,step=0,memory=1g", "\"0\" is not the number of a step"),
            ("stage=a,bogus=1", "\"bogus=1\" is not known"),
            ("stage=a,memory", "\"memory\" is not KEY=VALUE"),
            ("stage=a,memory=x", "memory=\"x\" of --step-limit is no size"),
            ("stage=a,cpus=nan", "no number of processors"),
            ("stage=a,cpus=-1", "no number of processors"),
            ("stage=a,pids-limit=x", "no number of processes"),
            ("stage=a,timeout=1.5", "no number of seconds"),
            ("stage=a,retries=5000000000", "no number of attempts"),
            ("stage=a,ulimit=bogus=1", "there is no limit \"bogus\""),
            ("stage=a,ulimit=nofile", "is not NAME=SOFT[:HARD]"),
            ("stage=a,ulimit=nofile=5:1", "the soft limit is above the hard one"),
            ("stage=a,cgroup-parent=../../x", "is no path of a cgroup"),
        ] {
            let said = of_step(text).unwrap_err().to_string();
            assert!(said.contains(expected), "{text}: {said}");
        }
    }
}
