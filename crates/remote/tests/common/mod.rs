//! What tests of remote sources share: a store, a client, a scripted HTTP server.
#![allow(dead_code, reason = "each test file uses a part of it")]

use remote::{Config, GitSettings, HttpSettings, Remote, Retries, Route, SecretError, Secrets, Timeouts};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::LocalStore;
use tempfile::TempDir;

pub fn store() -> (TempDir, LocalStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&dir.path().join("s"), Default::default()).unwrap();
    (dir, store)
}

struct Map(BTreeMap<String, String>);

impl Secrets for Map {
    fn get(&self, id: &str) -> Result<Option<Vec<u8>>, SecretError> {
        Ok(self.0.get(id).map(|v| v.clone().into_bytes()))
    }
}

pub fn remote() -> Remote {
    remote_with(&[])
}

pub fn remote_with(secrets: &[(&str, &str)]) -> Remote {
    remote_git(
        secrets,
        GitSettings { path: std::env::var_os("PATH").unwrap_or_default(), ..GitSettings::default() },
    )
}

pub fn remote_git(secrets: &[(&str, &str)], git: GitSettings) -> Remote {
    let client = || {
        let config = registry::Config::new(Arc::new(registry::NoCredentials));
        Ok(registry::web_client(&config).unwrap())
    };
    let retries = Retries { attempts: 3, first_pause: Duration::from_millis(5), ..Retries::default() };
    Remote::new(Config {
        http: HttpSettings {
            client: Arc::new(client),
            route: Route::Direct,
            timeouts: Timeouts { idle: Duration::from_millis(1500) },
            retries,
        },
        git: GitSettings { retries, ..git },
        secrets: Arc::new(Map(secrets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())),
    })
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many came before.
    pub number: usize,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    cut: Option<usize>,
    wait: Duration,
    trickle: Option<Duration>,
}

impl Reply {
    pub fn new(status: u16) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            cut: None,
            wait: Duration::ZERO,
            trickle: None,
        }
    }
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Reply { body: body.into(), ..Reply::new(200) }
    }
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
    /// Close the connection after so many bytes of the body.
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.cut = Some(bytes);
        self
    }
    pub fn after(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
    /// One byte each time.
    pub fn trickle(mut self, pause: Duration) -> Self {
        self.trickle = Some(pause);
        self
    }
}

/// Answers on loopback until it is dropped.
pub struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl Server {
    pub fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, stopped, answer) = (asked.clone(), stop.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (log, answer, stopped) = (log.clone(), answer.clone(), stopped.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &log, &*answer, &stopped));
            }
        });
        Server { port, asked, stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply, stopped: &AtomicBool) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if !matches!(reader.read_line(&mut line), Ok(n) if n > 0) || stopped.load(Ordering::SeqCst) {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_string();
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if !matches!(reader.read_line(&mut line), Ok(n) if n > 0) {
                return;
            }
            match line.trim_end().split_once(':') {
                Some((n, v)) => headers.push((n.to_ascii_lowercase(), v.trim().to_string())),
                None => break,
            }
        }
        let asked = {
            let mut log = log.lock().unwrap();
            let asked = Asked { number: log.len(), path, headers };
            log.push(asked.clone());
            asked
        };
        let reply = answer(&asked);
        std::thread::sleep(reply.wait);
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        for (n, v) in &reply.headers {
            head.push_str(&format!("{n}: {v}\r\n"));
        }
        if reply.status != 304 {
            head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
        }
        head.push_str("\r\n");
        let body = &reply.body[..reply.cut.unwrap_or(reply.body.len()).min(reply.body.len())];
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        let sent = match reply.trickle {
            None => stream.write_all(body).is_ok(),
            Some(pause) => body.iter().all(|b| {
                std::thread::sleep(pause);
                stream.write_all(&[*b]).is_ok()
            }),
        };
        if !sent || reply.cut.is_some() {
            return;
        }
    }
}
