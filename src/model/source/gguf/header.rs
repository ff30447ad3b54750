//! The header of a GGUF file: metadata, and name, type, shape and place of each tensor. Our own reader, since candle's gives
//! up on a file with a tensor of a type that candle does not have (IQ4_NL). Layout:
//! `GGUF`, version, number of tensors and of metadata entries, the entries, the tensors, padding, the tensors' bytes.

use std::collections::HashMap;
use std::io::Read;

use candle_core::quantized::gguf_file::Value;

use super::Checked;
use super::kinds::Kind;
use super::metadata::Metadata;
use super::names::unread_kind;

/// What the tensors' bytes are padded to where the metadata does not say.
const ALIGNMENT: usize = 32;
/// Dimensions that GGML's tensors have at most.
const DIMENSIONS: u32 = 4;
/// Lists within lists that are read; llama.cpp writes none.
const DEPTH: usize = 8;

/// What a file says of its tensors, by llama.cpp's names.
pub(super) type TensorInfos = HashMap<String, TensorInfo>;

/// What a file says of one tensor.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    /// How its values are written.
    pub kind: Kind,
    /// Its shape, rows first. (The file has the row's length first.)
    pub shape: Vec<usize>,
    /// Where its bytes begin, counted from where the tensors' bytes do.
    pub offset: u64,
}

impl TensorInfo {
    /// Number of values; `None` where it is larger than a machine can count.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |all, dim| all.checked_mul(*dim))
    }
}

/// A file's header.
pub(super) struct Header {
    pub metadata: Metadata,
    pub tensors: TensorInfos,
    /// Where the tensors' bytes begin.
    pub data: u64,
}

/// Reads the header of a file of `size` bytes.
pub(super) fn read(file: impl Read, size: u64) -> Checked<Header> {
    let mut file = Reader { file, size, at: 0, short_lengths: false };
    let damaged = |why: String| format!("is not a GGUF file, or is damaged: {why}");
    if file.bytes().map_err(damaged)? != *b"GGUF" {
        return Err(damaged("it does not begin with `GGUF`".into()));
    }
    let version = file.u32().map_err(damaged)?;
    if !(1..=3).contains(&version) {
        return Err(format!("is a GGUF file of version {version}; versions 1 to 3 are supported, little-endian"));
    }
    file.short_lengths = version == 1;
    let (metadata, tensors) = file.entries().map_err(damaged)?;
    let tensors = tensors.into_iter().map(|(name, kind, shape, offset)| match Kind::of(kind) {
        Some(kind) => Ok((name, TensorInfo { kind, shape, offset })),
        None => Err(unread_kind(kind)),
    });
    let tensors = tensors.collect::<Checked<TensorInfos>>()?;
    let end = file.at;
    let alignment = metadata.count("general.alignment")?.unwrap_or(ALIGNMENT) as u64;
    let data = end.checked_next_multiple_of(alignment).filter(|_| alignment > 0);
    let data =
        data.ok_or_else(|| format!("is not a GGUF file: its header is invalid (`general.alignment` {alignment})"))?;
    Ok(Header { metadata, tensors, data })
}

/// Name, number of the type, shape and offset of a tensor.
type Entry = (String, u32, Vec<usize>, u64);

struct Reader<R> {
    file: R,
    /// Bytes of the whole file.
    size: u64,
    /// Bytes that have been read.
    at: u64,
    /// Whether lengths have 32 bits, as in version 1.
    short_lengths: bool,
}

impl<R: Read> Reader<R> {
    fn entries(&mut self) -> Checked<(Metadata, Vec<Entry>)> {
        let (tensors, entries) = (self.length()?, self.length()?);
        let mut metadata = HashMap::new();
        for _ in 0..entries {
            let key = self.text()?;
            let kind = self.u32()?;
            let value = self.value(kind, DEPTH).map_err(|why| format!("`{key}`: {why}"))?;
            metadata.insert(key, value);
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            let name = self.text()?;
            let dimensions = self.u32()?;
            if dimensions > DIMENSIONS {
                return Err(format!("the tensor `{name}` has {dimensions} dimensions"));
            }
            let mut shape = (0..dimensions).map(|_| self.length()).collect::<Checked<Vec<usize>>>()?;
            shape.reverse();
            infos.push((name, self.u32()?, shape, u64::from_le_bytes(self.bytes()?)));
        }
        Ok((Metadata(metadata), infos))
    }

    /// A value of the type with this number.
    fn value(&mut self, kind: u32, depth: usize) -> Checked<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(self.u32()?),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => match self.bytes()? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(format!("{other} is neither true nor false")),
            },
            8 => Value::String(self.text()?),
            9 if depth > 0 => {
                let kind = self.u32()?;
                let length = self.length()?;
                Value::Array((0..length).map(|_| self.value(kind, depth - 1)).collect::<Checked<Vec<_>>>()?)
            }
            10 => Value::U64(u64::from_le_bytes(self.bytes()?)),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(format!("there is no value type {other}")),
        })
    }

    /// A text. What is no UTF-8 is replaced, as candle and llama.cpp's Python do; some files end texts with zero bytes.
    fn text(&mut self) -> Checked<String> {
        let length = self.length()? as u64;
        let left = self.size.saturating_sub(self.at);
        if length > left {
            return Err(format!("a text of {length} bytes, and the file has {left} more"));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string())
    }

    /// How many of something follow, or a dimension.
    fn length(&mut self) -> Checked<usize> {
        let length = if self.short_lengths { u64::from(self.u32()?) } else { u64::from_le_bytes(self.bytes()?) };
        usize::try_from(length).map_err(|_| format!("{length} is too large"))
    }

    fn u32(&mut self) -> Checked<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn bytes<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Checked<()> {
        self.file.read_exact(bytes).map_err(|_| "it ends within its header".to_string())?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A header of this version with so many tensors and metadata entries, which `rest` spells out.
    fn header(version: u32, tensors: u64, entries: u64, rest: &[&[u8]]) -> Checked<Header> {
        let mut bytes = [b"GGUF".as_slice(), &version.to_le_bytes()].concat();
        for count in [tensors, entries] {
            bytes.extend(&count.to_le_bytes()[..if version == 1 { 4 } else { 8 }]);
        }
        bytes.extend(rest.concat());
        read(bytes.as_slice(), bytes.len() as u64)
    }

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    fn refused(found: Checked<Header>, words: &str) {
        let why = found.err().expect(words);
        assert!(why.contains(words), "{why}");
    }

    #[test]
    fn entries_and_tensors_are_read_and_the_bytes_begin_at_the_next_32() {
        let shape = [&2u32.to_le_bytes()[..], &32u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
        let tensor = [&text("w")[..], &shape, &20u32.to_le_bytes(), &96u64.to_le_bytes()].concat();
        let list =
            [&9u32.to_le_bytes()[..], &5u32.to_le_bytes(), &2u64.to_le_bytes(), &[255; 4], &[7, 0, 0, 0]].concat();
        let flag = [&7u32.to_le_bytes()[..], &[1]].concat();
        let found = header(3, 1, 2, &[&text("list"), &list, &text("flag\0"), &flag, &tensor]).unwrap();
        assert_eq!((found.metadata.flag("flag"), found.metadata.has("list")), (Ok(Some(true)), true));
        assert!(found.metadata.counts("list").unwrap_err().contains("not a list of whole numbers"), "−1 is none");
        let info = &found.tensors["w"];
        assert_eq!((info.kind, info.shape.as_slice(), info.offset), (Kind::Iq4Nl, &[3, 32][..], 96));
        assert!(found.data.is_multiple_of(32) && found.data > 100);
        let old = header(1, 0, 1, &[&1u32.to_le_bytes(), b"k", &0u32.to_le_bytes(), &[9]]).unwrap();
        assert_eq!(old.metadata.count("k"), Ok(Some(9)), "lengths of 32 bits");
    }

    #[test]
    fn a_damaged_header_is_refused_by_what_is_wrong_and_without_taking_its_lengths_for_true() {
        refused(read(b"GGML".as_slice(), 4), "it does not begin with `GGUF`");
        refused(read(b"GG".as_slice(), 2), "it ends within its header");
        refused(header(4, 0, 0, &[]), "is a GGUF file of version 4; versions 1 to 3");
        refused(header(3, u64::MAX, 0, &[]), "it ends within its header");
        refused(
            header(3, 0, 1, &[&u64::MAX.to_le_bytes()]),
            "a text of 18446744073709551615 bytes, and the file has 0",
        );
        refused(header(3, 0, 1, &[&text("k"), &13u32.to_le_bytes()]), "`k`: there is no value type 13");
        refused(header(3, 0, 1, &[&text("k"), &7u32.to_le_bytes(), &[2]]), "`k`: 2 is neither true nor false");
        let long = [9u32, 0].map(u32::to_le_bytes).concat();
        refused(header(3, 0, 1, &[&text("k"), &long, &u64::MAX.to_le_bytes()]), "`k`: it ends within its header");
        // Lists in lists, deeper than any file has them.
        let nested = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat().repeat(50);
        refused(header(3, 0, 1, &[&text("k"), &9u32.to_le_bytes(), &nested]), "`k`: there is no value type 9");
        refused(header(3, 1, 0, &[&text("w"), &5u32.to_le_bytes()]), "the tensor `w` has 5 dimensions");
    }
}
