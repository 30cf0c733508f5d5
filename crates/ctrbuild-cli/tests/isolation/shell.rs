//! `ctrbuild shell --failed` on a terminal, and `--on-fail-export`.

use crate::builder::{Builder, everybody, marker};
use crate::place::{has, run};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// A person at a terminal in which a command runs.
struct Terminal {
    upper: File,
    lower: File,
    child: Child,
    shown: Arc<Mutex<String>>,
    before: String,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    fn start(command: &Command) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let upper = openpt(flags).unwrap();
        grantpt(&upper).unwrap();
        unlockpt(&upper).unwrap();
        let lower = File::from(ioctl_tiocgptpeer(&upper, flags).unwrap());
        tcsetwinsize(&upper, size(33, 101)).unwrap();
        let end = || Stdio::from(lower.try_clone().unwrap());
        // Not the leader of its group, so that `setsid` becomes the command itself.
        let mut inside = Command::new("setsid");
        inside.args(["--ctty", "--"]).arg(command.get_program()).args(command.get_args());
        inside.current_dir(command.get_current_dir().unwrap()).env_clear();
        for (name, value) in command.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        inside.env("TERM", "vt220").stdin(end()).stdout(end()).stderr(end());
        let before = modes(&lower);
        let child = inside.spawn().unwrap();
        let upper = File::from(upper);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut from, to) = (upper.try_clone().unwrap(), shown.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut buffer) {
                to.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        Terminal { upper, lower, child, shown, before }
    }

    fn type_in(&mut self, text: &str) {
        self.upper.write_all(text.as_bytes()).unwrap();
    }

    /// Wait for `text`, and forget what was shown up to it.
    #[track_caller]
    fn expect(&self, text: &str) {
        let started = Instant::now();
        loop {
            let mut shown = self.shown.lock().unwrap();
            if let Some(at) = shown.find(text) {
                shown.drain(..at + text.len());
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{text:?} is not shown: {shown:?}");
            drop(shown);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The exit code. The terminal must be as it was.
    #[track_caller]
    fn end(mut self) -> Option<i32> {
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if started.elapsed() > PATIENCE => {
                    let _ = self.child.kill();
                    panic!("it does not end: {:?}", self.shown.lock().unwrap());
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        assert_eq!(modes(&self.lower), self.before, "the terminal's modes");
        status.code()
    }
}

/// All that `stty` would show.
fn modes(terminal: &File) -> String {
    format!("{:?}", tcgetattr(terminal).unwrap())
}

fn failed_step(b: &Builder, args: &[&str]) {
    let recipe = "FROM base\nENV A=b\nRUN mkdir -p /home/app && chown app /home/app\nUSER app\nWORKDIR /home/app\n\
                  RUN echo kept > made; exit 7\n";
    let said = b.build(recipe, args).err();
    assert!(said.contains("exit code: 7") && said.contains("ctrbuild shell --failed"), "{said}");
}

#[test]
fn a_shell_on_a_terminal() {
    everybody(|b| {
        if !has(&["setsid"]) {
            return;
        }
        failed_step(b, &["--network=none", "--add-host", "near:192.0.2.3"]);
        let mut t = Terminal::start(&b.command(&["shell", "--failed"]));
        t.expect("RUN echo kept > made; exit 7");
        t.expect("changes are discarded");
        t.expect("$ ");
        // The marks are made by the shell, so that the echo of what is typed isn't taken for them.
        t.type_in("echo \"<\"A=$A u=$(id -u) d=$PWD $(cat made) $TERM $(ls /sys/class/net) $(grep -c near /etc/hosts)\">\"\n");
        t.expect("<A=b u=1000 d=/home/app kept vt220 lo 1>");
        t.type_in("stty size | sed 's/^/size=/'\n");
        t.expect("size=33 101");
        tcsetwinsize(&t.upper, size(40, 120)).unwrap();
        let started = Instant::now();
        loop {
            t.type_in("stty size | sed 's/^/now=/'\n");
            t.expect("now=");
            std::thread::sleep(Duration::from_millis(50));
            if t.shown.lock().unwrap().contains("40 120") {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "the new size is not passed on");
        }
        // Ctrl-C ends what runs in the shell, and not the shell.
        t.type_in("sleep 1000 || echo \"<\"after=$?\">\"\n");
        std::thread::sleep(Duration::from_millis(300));
        t.type_in("\x03");
        t.type_in("echo \"<\"alive=$?\">\"\n");
        t.expect("<alive=130>");
        // Ctrl-\ likewise.
        t.type_in("sleep 1000\n");
        std::thread::sleep(Duration::from_millis(300));
        t.type_in("\x1c");
        t.type_in("echo \"<\"quit=$?\">\"\n");
        t.expect("<quit=131>");
        t.type_in("touch gone; exit 5\n");
        assert_eq!(t.end(), Some(5));
        let mut t = Terminal::start(&b.command(&["shell", "--failed"]));
        t.expect("$ ");
        t.type_in("ls\n");
        t.expect("made");
        // End of input.
        t.type_in("\x04");
        assert_eq!(t.end(), Some(0));
    });
}

#[test]
fn however_a_shell_ends_the_terminal_is_restored() {
    everybody(|b| {
        if !has(&["setsid"]) {
            return;
        }
        failed_step(b, &[]);
        // The command is killed by somebody else.
        let mark = marker();
        let t = Terminal::start(&b.command(&["shell", "--failed", "--", "sleep", &mark]));
        let started = Instant::now();
        let pid = loop {
            // The builder has the same argument. It is read once: while a program starts there are no arguments.
            let is = |args: &[String], word: &str| args.iter().any(|a| a == word);
            let is_own = |args: &[String]| is(args, &mark) && !is(args, "--failed");
            if let Some(pid) = pids_where(is_own).first() {
                break *pid;
            }
            assert!(started.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(10));
        };
        std::thread::sleep(Duration::from_millis(200));
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert_eq!(t.end(), Some(137));
        // The builder is asked to end.
        for (signal, code) in [(rustix::process::Signal::TERM, 143), (rustix::process::Signal::HUP, 129)] {
            let mark = marker();
            let mut t = Terminal::start(&b.command(&["shell", "--failed"]));
            t.expect("$ ");
            t.type_in(&format!("sleep {mark}\n"));
            let started = Instant::now();
            while pids(&mark).is_empty() {
                assert!(started.elapsed() < PATIENCE);
                std::thread::sleep(Duration::from_millis(10));
            }
            rustix::process::kill_process(rustix::process::Pid::from_child(&t.child), signal).unwrap();
            assert_eq!(t.end(), Some(code));
            assert!(pids(&mark).is_empty());
        }
    });
}

fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).map(|a| String::from_utf8_lossy(a).into_owned()).collect()
}

fn pids_where(wanted: impl Fn(&[String]) -> bool) -> Vec<i32> {
    let names = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    names.filter(|pid| wanted(&arguments(*pid))).collect()
}

fn pids(argument: &str) -> Vec<i32> {
    pids_where(|args| args.iter().any(|a| a == argument))
}

#[test]
fn the_export_of_a_failed_step_goes_to_an_empty_folder() {
    everybody(|b| {
        let home = if b.is_root() { "home" } else { "user" };
        let (fresh, full) = (format!("{home}/deep/fresh"), format!("{home}/full"));
        let recipe = "FROM base\nRUN echo left > /left; ln -s /etc/passwd /link; chmod u+s /left; false\n";
        let said = b.build(recipe, &["--on-fail-export", &fresh]).err();
        assert!(said.contains(&format!("its root file system is in {fresh}")), "{said}");
        let folder = b.place.path(&fresh);
        assert_eq!(fs::read_to_string(folder.join("left")).unwrap(), "left\n");
        assert_eq!(fs::read_link(folder.join("link")).unwrap().to_str(), Some("/etc/passwd"));
        // What the step made setuid is nothing for others.
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        // A folder with something in it is refused before anything is built.
        fs::create_dir(b.place.path(&full)).unwrap();
        fs::set_permissions(b.place.path(&full), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(b.place.path(&full).join("mine"), "mine").unwrap();
        let said = b.build(recipe, &["--on-fail-export", &full]).err();
        assert!(said.contains("is not empty") && !said.contains("RUN"), "{said}");
        assert_eq!(fs::read_dir(b.place.path(&full)).unwrap().count(), 1);
        let file = format!("{full}/mine");
        let said = b.build(recipe, &["--on-fail-export", &file]).err();
        assert!(said.contains("can't use"), "{said}");
    });
}

/// `ctrbuild run` in a working container: a terminal of its own, and what was done there stays.
#[test]
fn a_command_in_a_container_has_the_terminal() {
    everybody(|b| {
        if !has(&["setsid"]) {
            return;
        }
        let c = run(&mut b.command(&["from", "base"])).ok();
        let mut t = Terminal::start(&b.command(&["run", &c, "sh"]));
        t.expect("# ");
        t.type_in("echo \"<\"$TERM $(id -u)\">\"; echo by-hand > /made; test -t 0 && echo o''n\n");
        t.expect("<vt220 0>");
        t.expect("\non");
        // Ctrl-C is for the shell in there.
        t.type_in("sleep 60\n");
        std::thread::sleep(Duration::from_millis(300));
        t.type_in("\x03");
        t.type_in("exit 3\n");
        assert_eq!(t.end(), Some(3));
        assert_eq!(run(&mut b.command(&["run", &c, "cat", "/made"])).ok(), "by-hand");
        // Without one, though we are at a terminal.
        let t = Terminal::start(&b.command(&["run", "--tty=false", &c, "sh", "-c", "exit 4"]));
        assert_eq!(t.end(), Some(4));
        let said = run(&mut b.command(&["run", "--tty", &c, "true"])).err();
        assert!(said.contains("--tty needs a terminal"), "{said}");
    });
}
