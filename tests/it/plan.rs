//! The floor plan holds: no room uses one beside or above it. The floors are read off `src/lib.rs`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room's floor, the roof highest.
fn floors() -> HashMap<String, usize> {
    let plan = fs::read_to_string(source().join("lib.rs")).unwrap();
    let (mut floor, mut rooms) = (usize::MAX, HashMap::new());
    for line in plan.lines() {
        if line.starts_with("// floor: ") {
            floor -= 1;
        }
        if let Some(room) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            rooms.insert(room.to_owned(), floor);
        }
    }
    rooms
}

#[test]
fn no_room_uses_one_beside_or_above_it() {
    let floors = floors();
    assert!(floors.len() > 5, "the plan in lib.rs was not understood: {floors:?}");
    let mut climbs = Vec::new();
    for file in files(&source()) {
        let inside = file.strip_prefix(source()).unwrap().to_string_lossy().into_owned();
        let room = inside.split(['/', '.']).next().unwrap().to_owned();
        let Some(own) = floors.get(&room) else { continue };
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            for used in rooms_in(line).filter(|used| *used != room) {
                let floor = floors.get(used).unwrap_or_else(|| panic!("{inside}:{}: `{used}` is no room", number + 1));
                if floor >= own {
                    climbs.push(format!("{inside}:{}: {room} uses {used}", number + 1));
                }
            }
        }
    }
    assert_eq!(climbs, Vec::<String>::new());
}

#[test]
fn every_file_begins_with_the_sentence_that_says_what_it_is_for() {
    for file in files(&source()) {
        let text = fs::read_to_string(&file).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 20, "{} begins with `{first}`", file.display());
    }
}

/// One room knows Amazon's types; what it hands out is ours.
#[test]
fn only_the_room_for_aws_names_its_types() {
    let mut seen = 0;
    for file in files(&source()) {
        let inside = file.strip_prefix(source()).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let names =
            ["aws_config", "aws_runtime", "aws_sdk", "aws_smithy", "aws_types"].map(|name| text.matches(name).count());
        let count: usize = names.iter().sum();
        assert!(count == 0 || inside.starts_with("aws/"), "{inside} names AWS types");
        seen += count;
    }
    assert!(seen > 0, "nobody speaks to AWS any more");
}

/// The rooms a line names as `crate::room`.
fn rooms_in(line: &str) -> impl Iterator<Item = &str> {
    let code = line.split("//").next().unwrap_or_default();
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
        &rest[..end]
    })
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
