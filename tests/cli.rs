//! Transcripts of the command line: what is typed, what comes back. `TRYCMD=overwrite` writes them anew, to be read.

#[test]
fn transcripts_still_hold() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd").register_bin("cutover", trycmd::cargo::cargo_bin!("cutover"));
}
