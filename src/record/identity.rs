//! Identities: the SHA-256 of a value's canonical JSON, so that an identity depends on what is said and on no program's way
//! of printing it.

use serde::Serialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fsio;

/// The hash of a value as JSON without blanks, the keys of every object sorted.
///
/// # Errors
/// A value that JSON cannot hold.
///
/// ```
/// use realign::record::canonical_sha256;
/// use serde_json::json;
/// let (a, b) = (json!({"a": 1, "b": {"c": 2, "d": 3}}), json!({"b": {"d": 3, "c": 2}, "a": 1}));
/// assert_eq!(canonical_sha256(&a).unwrap(), canonical_sha256(&b).unwrap());
/// ```
pub fn canonical_sha256<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    let value = serde_json::to_value(value).map_err(|e| Error::internal(format!("an identity: {e}")))?;
    Ok(fsio::sha256(sorted(value).to_string().as_bytes()))
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sorted).collect()),
        other => other,
    }
}
