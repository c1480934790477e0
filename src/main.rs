//! The binary `manage-ports`.

use std::ffi::OsString;
use std::process::ExitCode;

use manage_ports::cli;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match cli::run(&args) {
        Ok(code) => code,
        Err(err) => {
            err.print();
            err.exit_code()
        }
    }
}
