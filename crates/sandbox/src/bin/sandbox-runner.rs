//! A program that is nothing but a runner: for this crate's tests, which can't call `reexec` in a `main` of their own.

fn main() {
    sandbox::reexec();
    eprintln!("this program is started by the sandbox crate only");
    std::process::exit(2);
}
