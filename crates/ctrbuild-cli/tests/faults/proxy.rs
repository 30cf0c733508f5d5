//! A network in front of a registry that fails by a script.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered by the proxy.
    Answer { status: u16, headers: &'static str },
    /// Closed without an answer; the registry never sees it.
    Closed,
    /// This many bytes of the answer, then closed.
    CutAnswer(usize),
    /// This many bytes of the request arrive, then both ends are closed.
    CutRequest(usize),
    /// The registry does it, but nobody hears of that.
    Unheard,
    /// Nothing for this long, then closed.
    Silent(Duration),
    /// This many bytes of the answer; the rest once there is another script.
    Halt(usize),
    /// A byte of the answer, counted with its headers, has another bit.
    Flip(usize),
}

/// Which requests it happens to: the method, a part of the target, after how many of them, how many times.
#[derive(Debug, Clone)]
pub struct Rule {
    pub method: &'static str,
    pub target: &'static str,
    pub after: usize,
    pub times: usize,
    pub fault: Fault,
}

#[derive(Default)]
struct State {
    upstream: String,
    rules: Vec<Rule>,
    hits: usize,
    /// Scripts so far.
    scripts: usize,
}

/// Listens on a free port of 127.0.0.1; its thread ends with the test program.
pub struct Proxy {
    domain: String,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn new(upstream: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let domain = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State { upstream: upstream.into(), ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = shared.clone();
                std::thread::spawn(move || serve(client, &state));
            }
        });
        Proxy { domain, state }
    }

    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.domain)
    }
    pub fn script(&self, rules: Vec<Rule>) {
        let mut state = self.state.lock().unwrap();
        (state.rules, state.hits) = (rules, 0);
        state.scripts += 1;
    }
    /// Where the registry is now.
    pub fn set_upstream(&self, upstream: &str) {
        self.state.lock().unwrap().upstream = upstream.into();
    }
    /// How many faults there were since the script was set.
    pub fn hits(&self) -> usize {
        self.state.lock().unwrap().hits
    }
}

fn take(state: &Mutex<State>, method: &str, target: &str) -> (String, Option<Fault>) {
    let mut state = state.lock().unwrap();
    let upstream = state.upstream.clone();
    let mut fault = None;
    for rule in &mut state.rules {
        if rule.times == 0 || rule.method != method || !target.contains(rule.target) {
            continue;
        }
        if rule.after > 0 {
            rule.after -= 1;
            continue;
        }
        rule.times -= 1;
        fault = Some(rule.fault.clone());
        break;
    }
    state.hits += usize::from(fault.is_some());
    (upstream, fault)
}

/// One request a connection, so that bodies need no parsing.
fn serve(mut client: TcpStream, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut buffer = [0; 16 << 10];
    let end = loop {
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => head.extend_from_slice(&buffer[..n]),
        }
        if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&head[..end]).into_owned();
    let mut words = text.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (upstream, fault) = take(state, method, target);
    match &fault {
        Some(Fault::Answer { status, headers }) => {
            let answer =
                format!("HTTP/1.1 {status} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
            let _ = client.write_all(answer.as_bytes());
            // What still comes is read, or the answer could be lost to a reset.
            let _ = client.shutdown(Shutdown::Write);
            let _ = client.set_read_timeout(Some(Duration::from_secs(2)));
            while client.read(&mut buffer).is_ok_and(|n| n > 0) {}
            return;
        }
        Some(Fault::Closed) => return,
        Some(Fault::Silent(time)) => return std::thread::sleep(*time),
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(&upstream) else { return };
    let lines = text.lines().filter(|l| !l.is_empty() && !l.to_ascii_lowercase().starts_with("connection:"));
    let mut request = lines.collect::<Vec<_>>().join("\r\n");
    request.push_str("\r\nconnection: close\r\n\r\n");
    if server.write_all(request.as_bytes()).is_err() {
        return;
    }
    let mut first = head.split_off(end);
    let limit = match fault {
        Some(Fault::CutRequest(n)) => n,
        _ => usize::MAX,
    };
    let (Ok(mut from), Ok(mut to), Ok(end)) = (client.try_clone(), server.try_clone(), client.try_clone())
    else {
        return;
    };
    let sender = std::thread::spawn(move || {
        let mut sent = 0;
        loop {
            first.truncate(limit - sent);
            if to.write_all(&first).is_err() {
                return;
            }
            sent += first.len();
            if sent == limit {
                let _ = to.shutdown(Shutdown::Both);
                let _ = end.shutdown(Shutdown::Both);
                return;
            }
            let mut buffer = vec![0; 16 << 10];
            match from.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(n) => first = buffer[..n].to_vec(),
            }
        }
    });
    let mut left = match fault {
        Some(Fault::CutAnswer(n)) => n,
        Some(Fault::Unheard) => 0,
        _ => usize::MAX,
    };
    let script = state.lock().unwrap().scripts;
    let mut done = 0;
    while let Ok(n) = server.read(&mut buffer) {
        if n == 0 {
            break;
        }
        let n = n.min(left);
        left -= n;
        match fault {
            Some(Fault::Halt(at)) if done >= at => {
                while state.lock().unwrap().scripts == script {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Some(Fault::Flip(at)) if (done..done + n).contains(&at) => buffer[at - done] ^= 1,
            _ => {}
        }
        done += n;
        if client.write_all(&buffer[..n]).is_err() || left == 0 {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = sender.join();
}
