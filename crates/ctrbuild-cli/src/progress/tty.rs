//! Live progress: finished steps scroll by, running ones stay below with the end of their output.

use crate::style::{self, Palette};
use ctrbuild::BuildObserver;
use diagnostic::sanitize;
use graph::{Graph, VertexRef};
use plan::Plan;
use solver::{Event, Observer};
use std::collections::{BTreeMap, VecDeque};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Lines of output shown below a running step.
const TAIL: usize = 5;
/// Redraw at most this often.
const FRAME: Duration = Duration::from_millis(60);
/// And at least so often.
const TICK: Duration = Duration::from_millis(200);
/// Lines that are too long for the terminal are cut there, whatever width their characters have, so that as many lines
/// are drawn as are taken back.
const CUT: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Draws on standard error.
pub struct Tty {
    screen: Arc<Mutex<Screen>>,
}

impl Tty {
    pub fn new() -> Self {
        let palette = Palette::of(style::color_of(&std::io::stderr()));
        let screen = Arc::new(Mutex::new(Screen { palette, ..Screen::default() }));
        let weak = Arc::downgrade(&screen);
        // Time goes by for a step that says nothing, too.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(TICK);
                let Some(screen) = weak.upgrade() else { return };
                let mut screen = screen.lock().unwrap_or_else(|e| e.into_inner());
                if screen.ended {
                    return;
                }
                if !screen.running.is_empty() {
                    screen.redraw();
                }
            }
        });
        Tty { screen }
    }
}

#[derive(Default)]
struct Screen {
    palette: Palette,
    /// Nothing is drawn any more.
    ended: bool,
    running: BTreeMap<(usize, VertexRef), Running>,
    graphs: usize,
    drawn_lines: usize,
    drawn_at: Option<Instant>,
}

struct Running {
    name: String,
    started: Instant,
    partial: Vec<u8>,
    tail: VecDeque<String>,
    transfers: BTreeMap<String, (u64, u64)>,
}

impl Screen {
    fn erase(&mut self, out: &mut String) {
        if self.drawn_lines > 0 {
            out.push_str(&format!("\x1b[{}A\x1b[0J", self.drawn_lines));
            self.drawn_lines = 0;
        }
    }

    /// A line that stays.
    fn say(&mut self, text: &str) {
        let mut out = String::new();
        self.erase(&mut out);
        out.push_str(text);
        out.push('\n');
        self.draw_running(&mut out);
        write(&out);
    }

    fn redraw(&mut self) {
        if self.drawn_at.is_some_and(|at| at.elapsed() < FRAME) {
            return;
        }
        let mut out = String::new();
        self.erase(&mut out);
        self.draw_running(&mut out);
        write(&out);
    }

    fn draw_running(&mut self, out: &mut String) {
        let (width, rows) = size();
        let Palette { dim, active, reset, .. } = self.palette;
        let mut lines = Vec::new();
        for step in self.running.values() {
            let seconds = step.started.elapsed().as_secs_f64();
            let time = format!("{seconds:.1}s");
            let name = crate::table::cut(&step.name, width.saturating_sub(time.len() + 5));
            let pad = width.saturating_sub(name.chars().count() + time.len() + 4);
            lines.push(format!("{active} => {name}{:pad$}{time}{reset}\n", ""));
            let (done, total) = step.transfers.values().fold((0, 0), |(d, t), (a, b)| (d + a, t + b));
            if total > 0 && done < total {
                let (done, total) = (crate::table::size(done), crate::table::size(total));
                lines.push(format!("{dim}    {done} / {total}{reset}\n"));
            }
            for line in &step.tail {
                lines.push(format!("{dim}    {}{reset}\n", crate::table::cut(line, width.saturating_sub(5))));
            }
        }
        // What scrolls away can't be taken back.
        lines.truncate(rows.saturating_sub(1));
        if !lines.is_empty() {
            out.push_str(CUT);
            lines.iter().for_each(|line| out.push_str(line));
            out.push_str(WRAP);
        }
        self.drawn_lines = lines.len();
        self.drawn_at = Some(Instant::now());
    }
}

/// Columns and rows.
fn size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    let (columns, rows) = size.map_or((80, 24), |s| (usize::from(s.ws_col), usize::from(s.ws_row)));
    // Some terminals say nothing of themselves.
    let or = |n: usize, usual: usize| if n == 0 { usual } else { n };
    (or(columns, 80).clamp(30, 300), or(rows, 24))
}

fn write(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes());
}

impl Tty {
    fn lock(&self) -> std::sync::MutexGuard<'_, Screen> {
        self.screen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        let mut out = String::new();
        let mut screen = self.lock();
        screen.erase(&mut out);
        screen.ended = true;
        write(&out);
    }
}

impl BuildObserver for Tty {
    fn plan(&self, _: &Arc<Plan>, graph: &Arc<Graph>) -> Arc<dyn Observer> {
        let mut screen = self.lock();
        screen.graphs += 1;
        Arc::new(TtyGraph { graph: graph.clone(), number: screen.graphs, screen: self.screen.clone() })
    }
    fn lookup(&self, reference: &str) {
        self.lock().say(&format!(" => resolve {}", sanitize(reference)));
    }
    fn note(&self, text: &str) {
        self.lock().say(&format!("note: {}", sanitize(text)));
    }
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        Arc::new(TtyTransfers { screen: self.screen.clone() })
    }
}

struct TtyTransfers {
    screen: Arc<Mutex<Screen>>,
}

impl registry::Progress for TtyTransfers {
    fn event(&self, event: registry::Event<'_>) {
        use registry::Event::*;
        let mut screen = self.screen.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Done { blob } => screen.say(&format!(
                " => pushed {} {}",
                super::short(&blob.digest),
                crate::table::size(blob.size)
            )),
            Present { blob } => screen.say(&format!(" => exists {}", super::short(&blob.digest))),
            Mounted { blob, from } => {
                screen.say(&format!(" => mounted {} from {}", super::short(&blob.digest), sanitize(from)))
            }
            _ => {}
        }
    }
}

struct TtyGraph {
    graph: Arc<Graph>,
    number: usize,
    screen: Arc<Mutex<Screen>>,
}

impl Observer for TtyGraph {
    fn event(&self, event: Event<'_>) {
        let mut screen = self.screen.lock().unwrap_or_else(|e| e.into_inner());
        let name = |v: VertexRef| sanitize(&self.graph.get(v).provenance.name).into_owned();
        match event {
            Event::Started { vertex, .. } => {
                let step = Running {
                    name: name(vertex),
                    started: Instant::now(),
                    partial: Vec::new(),
                    tail: VecDeque::new(),
                    transfers: BTreeMap::new(),
                };
                screen.running.insert((self.number, vertex), step);
                screen.redraw();
            }
            Event::Cached { vertex } => {
                if !super::is_internal(&self.graph, vertex) {
                    let Palette { cached, reset, .. } = screen.palette;
                    screen.say(&format!("{cached} => CACHED {}{reset}", name(vertex)));
                }
            }
            Event::Log { vertex, data, .. } => {
                if let Some(step) = screen.running.get_mut(&(self.number, vertex)) {
                    step.log(data);
                }
                screen.redraw();
            }
            Event::Transfer { vertex, what, done, total } => {
                if let Some(step) = screen.running.get_mut(&(self.number, vertex)) {
                    step.transfers.insert(what.to_string(), (done, total));
                }
                screen.redraw();
            }
            Event::Used { .. } => {}
            Event::Finished { vertex, took } => {
                screen.running.remove(&(self.number, vertex));
                let Palette { dim, reset, .. } = screen.palette;
                screen.say(&format!(" => {} {dim}{:.1}s{reset}", name(vertex), took.as_secs_f64()));
            }
            Event::Failed { vertex, .. } => {
                screen.running.remove(&(self.number, vertex));
                let Palette { failed, reset, .. } = screen.palette;
                screen.say(&format!("{failed} => ERROR {}{reset}", name(vertex)));
            }
        }
    }
}

impl Running {
    fn log(&mut self, data: &[u8]) {
        for piece in data.split_inclusive(|b| *b == b'\n') {
            let room = 1000usize.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let text = String::from_utf8_lossy(&self.partial);
                // What a step redraws on one line is shown as it was last.
                let last = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default();
                self.tail.push_back(sanitize(last).into_owned());
                if self.tail.len() > TAIL {
                    self.tail.pop_front();
                }
                self.partial.clear();
            }
        }
    }
}
