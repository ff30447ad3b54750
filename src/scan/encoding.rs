//! Bytes of a Python file as text, by the rules of PEP 263: UTF-8 unless the first two lines name another encoding.

use std::borrow::Cow;

/// The text, or `None` where CPython would refuse the bytes. Of the encodings that a file can name, UTF-8, ASCII
/// and Latin-1 are decoded; a file in another one is read if it holds nothing but ASCII.
pub fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let utf8 = || std::str::from_utf8(bytes).ok().map(Cow::Borrowed);
    let marked = bytes.starts_with("\u{feff}".as_bytes());
    match cookie(bytes).as_deref() {
        None => utf8(),
        Some(name) if name.starts_with("utf-8") => utf8(),
        // A byte order mark says UTF-8; nothing else may be named beside it, not even `utf8`.
        Some(_) if marked => None,
        Some("utf8") => utf8(),
        Some("latin-1" | "latin1" | "iso-8859-1" | "iso8859-1" | "iso-latin-1" | "l1") => {
            Some(bytes.iter().map(|&byte| char::from(byte)).collect())
        }
        Some(name) if SUPERSETS_OF_ASCII.iter().any(|known| name.starts_with(known)) => {
            utf8().filter(|_| bytes.is_ascii())
        }
        Some(_) => None,
    }
}

/// How the names of encodings begin in which ASCII reads as itself.
const SUPERSETS_OF_ASCII: [&str; 14] = [
    "ascii", "us-ascii", "cp12", "cp4", "cp8", "cp9", "windows-", "iso-8859", "iso8859", "koi8", "gb", "big5", "euc",
    "mac",
];

/// The encoding that a comment in the first two lines names, in lower case with hyphens.
fn cookie(bytes: &[u8]) -> Option<String> {
    for line in bytes.split(|&byte| byte == b'\n').take(2) {
        let line = String::from_utf8_lossy(&line[..line.len().min(400)]);
        let text = line.trim_start_matches([' ', '\t', '\x0c', '\u{feff}']);
        if let Some(comment) = text.strip_prefix('#') {
            let after = comment.find("coding").map(|at| &comment[at + "coding".len()..]);
            if let Some(name) = after.and_then(|a| a.strip_prefix([':', '='])) {
                let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
                let name: String = name.trim_start_matches([' ', '\t']).chars().take_while(|&c| is_part(c)).collect();
                if !name.is_empty() {
                    return Some(name.to_lowercase().replace('_', "-"));
                }
            }
        } else if !text.trim_end().is_empty() {
            // Code in the first line: a comment in the second no longer counts.
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_python_reads_them() {
        assert_eq!(decode("é = 1".as_bytes()).as_deref(), Some("é = 1"));
        assert_eq!(decode(b"x = '\xe9'"), None);
        assert_eq!(
            decode(b"# -*- coding: latin_1 -*-\nx = '\xe9'").as_deref(),
            Some("# -*- coding: latin_1 -*-\nx = 'é'")
        );
        assert_eq!(
            decode(b"#!/bin/python\n# coding=iso-8859-1\n'\xe9'").as_deref(),
            Some("#!/bin/python\n# coding=iso-8859-1\n'é'")
        );
        assert_eq!(decode(b"x = 1\n# coding=latin-1\n'\xe9'"), None);
        assert_eq!(decode(b"# coding: uft-8\nx"), None);
        assert_eq!(decode(b"\xef\xbb\xbf# coding: latin-1\nx"), None);
        assert_eq!(decode(b"\xef\xbb\xbf# coding: utf8\nx"), None);
        assert_eq!(decode(b"# coding: cp1252\nx").as_deref(), Some("# coding: cp1252\nx"));
        assert_eq!(decode(b"# coding: ascii\n'\xc3\xa9'"), None);
    }
}
