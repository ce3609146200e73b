//! `cutover demo`, as anyone runs it first: it ends by itself, its figures are plausible, and nothing was lost.

use std::process::Command;

use serde_json::Value;

#[test]
fn the_demo_switches_under_load_and_loses_nothing() {
    let demo = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(["demo", "--json", "--seconds", "4", "--workers", "2"])
        .env_remove("CUTOVER_LOG")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{}: {text}{}", demo.status, String::from_utf8_lossy(&demo.stderr));
    assert!(demo.stderr.is_empty(), "off a terminal it is silent: {}", String::from_utf8_lossy(&demo.stderr));

    let result: Value = serde_json::from_str(&text).unwrap();
    let figure = |path: &str| result.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path}: {text}"));
    assert_eq!(figure("/failed"), 0, "{text}");
    assert_eq!(figure("/requests_to_old_since"), 0, "{text}");
    assert_eq!(result["lost_reasons"], Value::Array(Vec::new()));
    assert!(figure("/switches") >= 2, "{text}");
    assert!((figure("/switch_us_min")..=figure("/switch_us_max")).contains(&figure("/switch_us")), "{text}");
    for traffic in ["http1", "http2", "slow", "websocket", "blue", "green"] {
        assert!(figure(&format!("/requests/{traffic}")) > 0, "{traffic}: {text}");
    }
}
