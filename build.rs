//! Links the program so that it starts fast on Linux: at a fixed address, as the loader would
//! otherwise adjust ten thousand pointers before the first line runs, and with the part of gcc's
//! library that Rust needs inside, as finding and loading it is a fifth of the start. What is shipped
//! is static instead; `docs/building.md` says how the two differ.
#![allow(clippy::print_stdout, reason = "this is how a build script speaks")]

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const NSS: &str = "packaging/nss.c";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={NSS}");
    let is = |variable: &str, value| env::var(variable).is_ok_and(|found| found == value);
    if !(is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu")) {
        return Ok(());
    }
    if env::var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|features| features.split(',').any(|it| it == "crt-static")) {
        println!("cargo::rustc-link-arg-bins={}", nss()?.display());
        return Ok(());
    }
    println!("cargo::rustc-link-arg-bins=-no-pie");
    // Another machine's library is not ours to look for.
    if env::var("HOST") == env::var("TARGET")
        && let Some(folder) = static_gcc_eh().as_deref().and_then(|library| library.parent()?.to_str())
    {
        println!("cargo::rustc-link-search=native={folder}");
        println!("cargo::rustc-link-lib=static=gcc_eh");
    }
    Ok(())
}

/// Compiles what keeps a static program from loading other machines' modules, and returns the object file.
fn nss() -> Result<PathBuf, Box<dyn Error>> {
    let object = Path::new(&env::var("OUT_DIR")?).join("nss.o");
    let status = Command::new("cc").args(["-O2", "-Wall", "-Werror", "-c", NSS, "-o"]).arg(&object).status()?;
    if status.success() { Ok(object) } else { Err(format!("cc {NSS}: {status}").into()) }
}

/// Where the C compiler keeps its static unwinding library, if it has one.
fn static_gcc_eh() -> Option<PathBuf> {
    let output = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    // A library that cc does not have is answered with its bare name.
    path.is_absolute().then_some(path)
}
