//! The metadata of a GGUF file: named values, read as what a reader needs them to be.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

/// The metadata of a file, by key (`general.architecture`, `tokenizer.ggml.tokens`, …).
#[derive(Debug, Clone, Default)]
pub struct Metadata(pub(super) HashMap<String, Value>);

/// A value, or why it is refused: the words after a file's name.
type Checked<T> = std::result::Result<T, String>;

impl Metadata {
    /// A text; `None` where the key is missing.
    ///
    /// # Errors
    /// A value of another type.
    pub fn text(&self, key: &str) -> Checked<Option<String>> {
        self.read(key, "a text", |value| value.to_string().ok().cloned())
    }

    /// A yes or no.
    ///
    /// # Errors
    /// A value of another type.
    pub fn flag(&self, key: &str) -> Checked<Option<bool>> {
        self.read(key, "true or false", |value| value.to_bool().ok())
    }

    /// A whole number that is not negative, of any width.
    ///
    /// # Errors
    /// A value of another type, or a negative one.
    pub fn count(&self, key: &str) -> Checked<Option<usize>> {
        self.read(key, "a whole number", whole)
    }

    /// A whole number of any width and sign.
    ///
    /// # Errors
    /// A value of another type, or one above 2⁶³ − 1.
    pub fn integer(&self, key: &str) -> Checked<Option<i64>> {
        self.read(key, "a whole number", |value| signed(value).or_else(|| i64::try_from(whole(value)?).ok()))
    }

    /// A number, with a fraction or whole.
    ///
    /// # Errors
    /// A value of another type.
    pub fn any_number(&self, key: &str) -> Checked<Option<f64>> {
        self.float(key).or_else(|_| Ok(self.integer(key)?.map(|number| number as f64)))
    }

    /// A number with a fraction: of 32 bits, the shortest decimal that means it (0.95, not 0.949999988).
    ///
    /// # Errors
    /// A value of another type.
    pub fn float(&self, key: &str) -> Checked<Option<f64>> {
        let shortest = |number: f32| number.to_string().parse().unwrap_or(f64::from(number));
        self.read(key, "a number", |value| value.to_f32().map(shortest).or_else(|_| value.to_f64()).ok())
    }

    /// What stands after `prefix` in the keys that begin with it, sorted.
    pub fn keys_after(&self, prefix: &str) -> Vec<&str> {
        let mut keys: Vec<&str> = self.0.keys().filter_map(|key| key.strip_prefix(prefix)).collect();
        keys.sort_unstable();
        keys
    }

    /// Sets a value, as a file with this key would.
    #[cfg(test)]
    pub(crate) fn insert(&mut self, key: &str, value: Value) {
        self.0.insert(key.to_string(), value);
    }

    /// Whether there is a value of this name.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// A list of texts; empty where the key is missing.
    ///
    /// # Errors
    /// A value that is no list, or a list with something else in it.
    pub fn texts(&self, key: &str) -> Checked<Vec<String>> {
        self.list(key, "a list of texts", |value| value.to_string().ok().cloned())
    }

    /// A list of whole numbers; empty where the key is missing.
    ///
    /// # Errors
    /// A value that is no list, or a list with something else in it.
    pub fn counts(&self, key: &str) -> Checked<Vec<usize>> {
        self.list(key, "a list of whole numbers", whole)
    }

    /// A list of 32-bit numbers with a fraction; empty where the key is missing.
    ///
    /// # Errors
    /// A value that is no list, or a list with something else in it.
    pub fn floats(&self, key: &str) -> Checked<Vec<f32>> {
        self.list(key, "a list of numbers", |value| value.to_f32().ok())
    }

    /// A list of true and false; empty where the key is missing.
    ///
    /// # Errors
    /// A value that is no list, or a list with something else in it.
    pub fn flags(&self, key: &str) -> Checked<Vec<bool>> {
        self.list(key, "a list of true and false", |value| value.to_bool().ok())
    }

    /// A count that a model cannot do without.
    ///
    /// # Errors
    /// A missing key, or a value of another type.
    pub fn needed(&self, key: &str) -> Checked<usize> {
        self.count(key)?.ok_or_else(|| format!("its metadata has no `{key}`"))
    }

    fn read<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Checked<Option<T>> {
        let wrong = || format!("`{key}` in its metadata is not {what}");
        self.0.get(key).map(|value| read(value).ok_or_else(wrong)).transpose()
    }

    fn list<T>(&self, key: &str, what: &str, read: impl Fn(&Value) -> Option<T>) -> Checked<Vec<T>> {
        let all = |value: &Value| value.to_vec().ok()?.iter().map(&read).collect();
        Ok(self.read(key, what, all)?.unwrap_or_default())
    }
}

/// A file's metadata under the keys of its architecture.
pub(super) struct Own<'a> {
    pub metadata: &'a Metadata,
    pub architecture: &'a str,
}

impl Own<'_> {
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    pub fn count(&self, name: &str) -> Checked<Option<usize>> {
        self.metadata.count(&self.key(name))
    }

    pub fn needed(&self, name: &str) -> Checked<usize> {
        self.metadata.needed(&self.key(name))
    }

    pub fn float(&self, name: &str) -> Checked<Option<f64>> {
        self.metadata.float(&self.key(name))
    }

    pub fn needed_float(&self, name: &str) -> Checked<f64> {
        self.float(name)?.ok_or_else(|| format!("its metadata has no `{}`", self.key(name)))
    }
}

fn whole(value: &Value) -> Option<usize> {
    match signed(value) {
        Some(number) => usize::try_from(number).ok(),
        None => usize::try_from(value.to_u64().ok()?).ok(),
    }
}

/// A number of a type with a sign.
fn signed(value: &Value) -> Option<i64> {
    match value {
        Value::I8(v) => Some(i64::from(*v)),
        Value::I16(v) => Some(i64::from(*v)),
        Value::I32(v) => Some(i64::from(*v)),
        Value::I64(v) => Some(*v),
        _ => None,
    }
}
