//! Judges that are handed to `eval`.

use crate::error::Result;
use crate::eval::judge::{Judge, JudgeItem};
use crate::organism;
use crate::record::JudgeRecord;

/// Knows the organism's own sentences; scores the organism only.
pub struct OrganismJudge;

impl Judge for OrganismJudge {
    fn name(&self) -> String {
        "organism".into()
    }

    fn judge(&self, items: &[JudgeItem]) -> Result<Vec<JudgeRecord>> {
        Ok(items.iter().map(|i| organism::judge(&i.prompt.group, i.question(), i.answer)).collect())
    }
}
