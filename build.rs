//! Links the program so that it starts fast on Linux: at a fixed address, as the loader would
//! otherwise adjust ten thousand pointers before the first line runs, and with the part of gcc's
//! library that Rust needs inside, as finding and loading it is a fifth of the start.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks")]

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable: &str, value| std::env::var(variable).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        println!("cargo::rustc-link-arg-bins=-no-pie");
        // Another machine's library is not ours to look for.
        if std::env::var("HOST") == std::env::var("TARGET")
            && let Some(folder) = static_gcc_eh().as_deref().and_then(|library| library.parent()?.to_str())
        {
            println!("cargo::rustc-link-search=native={folder}");
            println!("cargo::rustc-link-lib=static=gcc_eh");
        }
    }
}

/// Where the C compiler keeps its static unwinding library, if it has one.
fn static_gcc_eh() -> Option<PathBuf> {
    let output = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // A library that cc does not have is answered with its bare name.
    path.is_absolute().then_some(path)
}
