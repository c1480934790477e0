//! What `allocate --env-file` writes, read by python-dotenv in a release of each kind in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::fixture::{World, not_run};

/// Prints what python-dotenv reads in each file of a folder, as JSON.
const READ_ALL: &str = "
import json, logging, os, sys
sys.path.insert(0, sys.argv[1])
from dotenv import dotenv_values
logging.disable()
def read(path):
    try:
        return dotenv_values(path, interpolate=False)
    except UnicodeDecodeError:
        return None
json.dump({name: read(os.path.join(sys.argv[2], name)) for name in os.listdir(sys.argv[2])}, sys.stdout)
";

/// The releases of python-dotenv that are read with: where a value in quotes ends has changed in 1.2.3.
const RELEASES: [&str; 2] = ["1.0.1", "1.2.4"];

/// A folder for each of the [`RELEASES`], from PyPI; `None`, and a line that says so, where they cannot be had
/// outside CI.
pub fn python_dotenv() -> Option<&'static [PathBuf; 2]> {
    static FOLDERS: OnceLock<Option<[PathBuf; 2]>> = OnceLock::new();
    let install = |release: &str| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-dotenv-{release}"));
        if !folder.join("dotenv").is_dir() {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--target"]).arg(&folder);
            let output = pip.arg(format!("python-dotenv=={release}")).stdin(Stdio::null()).output().ok()?;
            if !output.status.success() {
                return None;
            }
        }
        Some(folder)
    };
    let folders = FOLDERS.get_or_init(|| Some([install(RELEASES[0])?, install(RELEASES[1])?]));
    if folders.is_none() {
        assert!(std::env::var_os("CI").is_none(), "python-dotenv could not be installed from PyPI");
        not_run("what python-dotenv reads: it could not be installed from PyPI");
    }
    folders.as_ref()
}

/// What one release reads in each file of a folder.
fn read_all(release: &Path, folder: &Path) -> Value {
    let output = Command::new("python3").args(["-c", READ_ALL]).args([release, folder]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn contents() -> Vec<Vec<u8>> {
    let line =
        "[ \t]?(export )?('BACKEND_PORT'=|(A|B|BACKEND_PORT|FRONTEND_PORT)( ?[=:] ?)?)[12 \"'#\\\\$\t\u{c}é]{0,6}\r?";
    let lines = prop::collection::vec(line, 0..6);
    let lines = ("\u{feff}?", lines).prop_map(|(mark, lines)| (mark + &lines.join("\n")).into_bytes());
    let mut runner = TestRunner::deterministic();
    let mut contents: Vec<_> = (0..150).map(|_| lines.new_tree(&mut runner).unwrap().current()).collect();
    contents.extend(
        [
            "A=\"\\\\\"\nBACKEND_PORT=1\nB=\"x\"\n",
            "\u{feff}BACKEND_PORT=1\n",
            "KEY=\"-----\nBACKEND_PORT=1\n-----\"\n",
            "A=\"x\nBACKEND_PORT=1\n",
            "BACKEND_PORT: 1\n",
            "BACKEND_PORT=1\t# x\n",
            "BACKEND_PORT= # x\n",
            "A=1\rBACKEND_PORT=2\rB=3\n",
            "BACKEND_PORT=1\nBACKEND_PORT\n",
        ]
        .map(|content| content.as_bytes().to_vec()),
    );
    contents
}

#[test]
fn python_dotenv_finds_the_ports_and_every_other_value_as_it_was() {
    let Some(releases) = python_dotenv() else { return };
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world.line("allocate m 1 -q").ok();
    let contents = contents();
    let mut written = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        world.write(&format!("before/{number}"), content);
        let path = world.write(&format!("after/{number}"), content);
        let ran = world.line(&format!("allocate m 1 --env-file after/{number} -q"));
        if ran.code == Some(0) {
            written.push(number.to_string());
        } else {
            ran.fails(1, &["env file", "hint: no ports were given"]);
            assert_eq!(fs::read(path).unwrap(), *content);
        }
    }
    assert!(written.len() > contents.len() / 2, "{} of {}", written.len(), contents.len());
    for release in releases {
        let (before, mut after) = (read_all(release, &world.path("before")), read_all(release, &world.path("after")));
        for number in &written {
            let content = String::from_utf8_lossy(&contents[number.parse::<usize>().unwrap()]);
            let values = after[number].as_object_mut().unwrap();
            let mut of_before = before[number].as_object().unwrap().clone();
            for (name, port) in [("BACKEND_PORT", "5001"), ("FRONTEND_PORT", "8001")] {
                assert_eq!(values.remove(name), Some(port.into()), "{content:?}");
                of_before.remove(name);
                // An old release takes a byte order mark for a part of the name.
                let marked = format!("\u{feff}{name}");
                assert_eq!(values.remove(&marked).is_some(), of_before.remove(&marked).is_some());
                // What Compose reads as set with a colon, python-dotenv takes for a name with a colon in it.
                let is_others = |key: &String| !key.trim_start_matches('\u{feff}').starts_with(&format!("{name}:"));
                values.retain(|key, _| is_others(key));
                of_before.retain(|key, _| is_others(key));
            }
            assert_eq!(*values, of_before, "{content:?}");
        }
    }
}
