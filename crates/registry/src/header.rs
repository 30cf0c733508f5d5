//! Parsers of HTTP header values: `WWW-Authenticate` (RFC 9110), `Link` (RFC 8288), `Retry-After`.

use std::time::Duration;

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case: `basic`, `bearer`.
    pub scheme: String,
    /// Names in lower case.
    pub params: Vec<(String, String)>,
}

impl Challenge {
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

const MAX_CHALLENGES: usize = 16;
const MAX_PARAMS: usize = 32;

/// The challenges of one header value. Broken input gives those before the break.
pub fn challenges(value: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() && out.len() < MAX_CHALLENGES {
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        let gap = after.trim_start_matches([' ', '\t']);
        match gap.strip_prefix('=').filter(|_| !out.is_empty()) {
            // A parameter of the last challenge.
            Some(v) => {
                let Some((text, after)) = param_value(v.trim_start_matches([' ', '\t'])) else { break };
                if let Some(last) = out.last_mut()
                    && last.params.len() < MAX_PARAMS
                {
                    last.params.push((word.to_ascii_lowercase(), text));
                }
                rest = after;
            }
            None => {
                out.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                rest = gap;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    out
}

fn token(s: &str) -> (&str, &str) {
    let end =
        s.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(s.len());
    s.split_at(end)
}

fn param_value(s: &str) -> Option<(String, &str)> {
    let Some(quoted) = s.strip_prefix('"') else {
        let end = s.find([',', ' ', '\t']).unwrap_or(s.len());
        return Some((s[..end].to_string(), &s[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &quoted[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

/// The target of `rel="next"` in a `Link` header.
pub fn next_link(value: &str) -> Option<&str> {
    let mut rest = value;
    loop {
        let start = rest.find('<')?;
        let (target, after) = rest[start + 1..].split_once('>')?;
        let end = after.find(",<").or_else(|| after.find(", <")).unwrap_or(after.len());
        let is_next = after[..end].split(';').any(|p| {
            let (name, v) = p.split_once('=').unwrap_or((p, ""));
            let v = v.trim().trim_matches('"');
            name.trim().eq_ignore_ascii_case("rel") && v.split(' ').any(|r| r.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.trim());
        }
        rest = &after[end..];
    }
}

/// `Retry-After` in seconds. The date form is not read: it needs a trusted clock.
pub fn retry_after(value: &str) -> Option<Duration> {
    value.trim().parse::<u32>().ok().map(|s| Duration::from_secs(s.into()))
}

/// The first byte that a `Content-Range: bytes 5-9/10` header names.
pub fn content_range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_real_challenges() {
        let c = challenges(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(c.len(), 1);
        assert_eq!(c[0].scheme, "bearer");
        assert_eq!(c[0].param("scope"), Some("repository:a/b:pull,push"));
        let c = challenges(r#"Basic realm="a \"b\", c", BEARER Realm = x ,service=y"#);
        assert_eq!(c[0].param("realm"), Some("a \"b\", c"));
        assert_eq!((c[1].param("realm"), c[1].param("service")), (Some("x"), Some("y")));
        assert_eq!(challenges("Negotiate, Basic").len(), 2);
    }

    #[test]
    fn broken_challenges_end_quietly() {
        for text in ["", ",", "=", "Bearer realm=\"x", "Bearer realm=\"\\", "é", "Bearer é=1", "\"\"", "a=b"]
        {
            let _ = challenges(text);
        }
        assert!(challenges(&"a,".repeat(100_000)).len() <= MAX_CHALLENGES);
        assert!(challenges(&format!("a {}", "b=c,".repeat(1000)))[0].params.len() <= MAX_PARAMS);
    }

    #[test]
    fn links_and_numbers() {
        assert_eq!(
            next_link(r#"</v2/x/tags/list?n=2&last=b>; rel="next""#),
            Some("/v2/x/tags/list?n=2&last=b")
        );
        assert_eq!(next_link(r#"<a>; rel=prev, <b>; REL="x next""#), Some("b"));
        for none in ["", "<", "<a", "<a>", "<a>; rel=prev", "a; rel=next"] {
            assert_eq!(next_link(none), None, "{none}");
        }
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        assert_eq!(retry_after("-1"), None);
        assert_eq!(content_range_start("bytes 5-9/10"), Some(5));
        assert_eq!(content_range_start("bytes */10"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_the_parsers_panic(text in "[A-Za-z=,\"\\\\ <>;/é-]{0,60}|\\PC{0,40}") {
            let _ = (challenges(&text), next_link(&text), retry_after(&text), content_range_start(&text));
        }
    }
}
