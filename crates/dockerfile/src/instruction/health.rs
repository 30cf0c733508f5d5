//! HEALTHCHECK, and durations as Go writes them.

use super::flags::Flags;
use super::run::command;
use super::spec::Spec;
use super::types::{Command, Healthcheck, HealthcheckCmd, Word};
use crate::error::ErrorKind;
use crate::syntax::{Failure, Statement};
use crate::word::quote;
use std::time::Duration;

pub(crate) fn read(statement: &Statement, spec: &'static Spec) -> Result<Healthcheck, Failure> {
    let Some((kind, args)) = statement.args.split_first() else {
        return Err((ErrorKind::NoArguments { instruction: spec.name }, statement.range));
    };
    let name = kind.value.to_uppercase();
    if name == "NONE" {
        return match args.is_empty() {
            true => Ok(Healthcheck::None),
            false => Err((ErrorKind::HealthcheckNone, statement.range)),
        };
    }
    let mut flags = Flags::read(statement, spec)?;
    if name != "CMD" {
        return Err((ErrorKind::HealthcheckType { kind: name }, kind.range));
    }
    if args.is_empty() {
        return Err((ErrorKind::HealthcheckNoCommand, statement.range));
    }
    let command: Command = command(statement, args);
    Ok(Healthcheck::Check(HealthcheckCmd {
        command,
        interval: duration(&mut flags, "interval")?,
        timeout: duration(&mut flags, "timeout")?,
        start_period: duration(&mut flags, "start-period")?,
        start_interval: duration(&mut flags, "start-interval")?,
        retries: match flags.string("retries") {
            Some(word) => retries(&word)?,
            None => 0,
        },
    }))
}

fn retries(word: &Word) -> Result<i32, Failure> {
    let digits = word.value.strip_prefix(['+', '-']).unwrap_or(&word.value);
    let value = word.value.clone();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((ErrorKind::RetriesNotANumber { value, reason: "invalid syntax" }, word.range));
    }
    match word.value.parse::<i32>() {
        Ok(number) if number < 0 => Err((ErrorKind::RetriesNegative { value: number }, word.range)),
        Ok(number) => Ok(number),
        Err(_) => Err((ErrorKind::RetriesNotANumber { value, reason: "value out of range" }, word.range)),
    }
}

fn duration(flags: &mut Flags, flag: &'static str) -> Result<Duration, Failure> {
    let Some(word) = flags.string(flag) else { return Ok(Duration::ZERO) };
    let nanos =
        parse_duration(&word.value).map_err(|message| (ErrorKind::Duration { message }, word.range))?;
    match u64::try_from(nanos) {
        Ok(0) => Ok(Duration::ZERO),
        Ok(nanos @ 1_000_000..) => Ok(Duration::from_nanos(nanos)),
        _ => Err((ErrorKind::DurationTooShort { flag }, word.range)),
    }
}

/// Reads `1h2m3.5s` into nanoseconds, with a sign. Errors are Go's messages.
fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => digits(after),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text))),
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut nanos = whole.checked_mul(scale).ok_or_else(invalid)?;
        // Eighteen digits of a fraction are more than a nanosecond can tell.
        let fraction = fraction.get(..18).unwrap_or(fraction);
        if let Ok(value) = fraction.parse::<u128>() {
            let part = value * u128::from(scale) / 10u128.pow(fraction.len() as u32);
            nanos = nanos.checked_add(part as u64).ok_or_else(invalid)?;
        }
        total = total.checked_add(nanos).filter(|total| *total <= 1 << 63).ok_or_else(invalid)?;
        rest = after;
    }
    match negative {
        true => Ok((total as i64).wrapping_neg()),
        false => i64::try_from(total).map_err(|_| invalid()),
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("1h2m3.5s"), Ok(3_723_500_000_000));
        assert_eq!(parse_duration("-1.5ms"), Ok(-1_500_000));
        assert_eq!(parse_duration(".5s"), Ok(500_000_000));
        assert_eq!(parse_duration("1.s"), Ok(1_000_000_000));
        assert_eq!(parse_duration("+0"), Ok(0));
        assert_eq!(parse_duration("5"), Err("time: missing unit in duration \"5\"".into()));
        assert_eq!(parse_duration("5x"), Err("time: unknown unit \"x\" in duration \"5x\"".into()));
        for bad in ["", "-", ".s", "s", "9999999999999h", "99999999999999999999s"] {
            assert_eq!(parse_duration(bad), Err(format!("time: invalid duration \"{bad}\"")));
        }
    }
}
