//! What others have sent, made harmless for a line: nothing in it ends the text, the line, or the terminal it is read on.

/// Appends `bytes` as the inside of a JSON string, in ASCII alone; what is no UTF-8 becomes U+FFFD.
pub fn json(out: &mut Vec<u8>, bytes: &[u8], cap: usize) {
    let (bytes, rest) = capped(bytes, cap);
    if are_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            chunk.valid().chars().for_each(|char| json_char(out, char));
            if !chunk.invalid().is_empty() {
                json_char(out, char::REPLACEMENT_CHARACTER);
            }
        }
    }
    out.extend_from_slice(rest);
}

/// Appends `bytes` as nginx and Apache do: whatever is not plain as `\xHH`.
pub fn combined(out: &mut Vec<u8>, bytes: &[u8], cap: usize) {
    let (bytes, rest) = capped(bytes, cap);
    if are_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        for byte in bytes {
            match is_plain(*byte) {
                true => out.push(*byte),
                false => out.extend_from_slice(&[b'\\', b'x', hex(byte >> 4), hex(byte & 15)]),
            }
        }
    }
    out.extend_from_slice(rest);
}

/// Appends a number in decimal.
pub fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn json_char(out: &mut Vec<u8>, char: char) {
    match u8::try_from(char) {
        Ok(byte) if is_plain(byte) => out.push(byte),
        Ok(byte @ (b'"' | b'\\')) => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            for unit in char.encode_utf16(&mut [0; 2]) {
                let digits = [12, 8, 4, 0].map(|shift| hex((*unit >> shift) as u8 & 15));
                out.extend_from_slice(b"\\u");
                out.extend_from_slice(&digits);
            }
        }
    }
}

/// Eight at a time: almost all text is plain, and this is most of what a line costs.
fn are_plain(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk() else { return bytes.iter().all(|byte| is_plain(*byte)) };
    // The last eight overlap with those before them.
    bytes.as_chunks().0.iter().chain([last]).all(|word| is_plain_word(u64::from_ne_bytes(*word)))
}

/// Whether each of the eight bytes is plain: the tests for a byte that is zero, or less than another, leave its highest
/// bit (Bit Twiddling Hacks, "Determine if a word has a zero byte").
fn is_plain_word(word: u64) -> bool {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let is = |byte| (word ^ each(byte)).wrapping_sub(each(1)) & !(word ^ each(byte));
    let is_control = word.wrapping_sub(each(b' ')) & !word;
    (is_control | word | is(0x7f) | is(b'"') | is(b'\\')) & each(0x80) == 0
}

/// Printable ASCII that means nothing in either format.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\')
}

/// The first `cap` bytes, and what says that there were more.
fn capped(bytes: &[u8], cap: usize) -> (&[u8], &'static [u8]) {
    match bytes.get(..cap) {
        Some(kept) if kept.len() < bytes.len() => (kept, b"..."),
        _ => (bytes, b""),
    }
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: fn(&mut Vec<u8>, &[u8], usize), bytes: &[u8], cap: usize) -> String {
        let mut out = Vec::new();
        write(&mut out, bytes, cap);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_not_plain_is_escaped() {
        let hostile = "a\"b\\c\r\n\u{1b}[2J\u{7f}\u{85}é😀".as_bytes();
        let json = written(json, hostile, 100);
        assert_eq!(json, r#"a\"b\\c\u000D\u000A\u001B[2J\u007F\u0085\u00E9\uD83D\uDE00"#);
        let combined = written(combined, hostile, 100);
        assert_eq!(combined, r"a\x22b\x5Cc\x0D\x0A\x1B[2J\x7F\xC2\x85\xC3\xA9\xF0\x9F\x98\x80");
        assert_eq!(written(super::json, b"a\xffb", 100), r"a\uFFFDb");
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        assert_eq!(written(json, b"abcdef", 6), "abcdef");
        assert_eq!(written(json, b"abcdefg", 6), "abcdef...");
        assert_eq!(written(combined, b"abcdefg", 6), "abcdef...");
        assert_eq!(written(json, "aé".as_bytes(), 2), r"a\uFFFD...");
    }

    #[test]
    fn one_byte_that_is_not_plain_is_seen_wherever_it_stands() {
        for place in 0..20 {
            for byte in 0..=255 {
                let mut bytes = [b'a'; 20];
                bytes[place] = byte;
                assert_eq!(are_plain(&bytes), is_plain(byte), "{byte} at {place}");
            }
        }
    }

    #[test]
    fn numbers_are_decimal() {
        let written = |value| {
            let mut out = Vec::new();
            number(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!([0, 7, 10, 1_000_000, u64::MAX].map(written), ["0", "7", "10", "1000000", "18446744073709551615"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_valid_string(bytes in prop::collection::vec(any::<u8>(), 0..300), cap in 0_usize..300) {
            let text = written(json, &bytes, cap);
            let read: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            prop_assert!(text.is_ascii() && !text.contains(|c: char| c.is_control()));
            if bytes.len() <= cap {
                prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
            }
            let text = written(combined, &bytes, cap);
            prop_assert!(text.is_ascii() && !text.contains(|c: char| c.is_control() || c == '"'));
            prop_assert_eq!(are_plain(&bytes), bytes.iter().all(|byte| is_plain(*byte)));
        }
    }
}
