//! One pass for rows of several interventions: each is called on its own rows alone, and rows without one stay as they are,
//! bit for bit.

use std::sync::Arc;

use candle_core::{Result, Tensor};

use super::job::same_intervention;
use crate::model::hooks::{HookContext, Intervention, Site, Tap};
use crate::model::segments::Segments;

/// Rows of one token each, by the intervention that they are decoded under.
pub(super) struct Mixed<'i> {
    /// Taps of all the interventions, each once.
    taps: Vec<Tap>,
    groups: Vec<(&'i (dyn Intervention + 'i), Vec<u32>)>,
}

/// What a batch of rows is decoded under.
pub(super) enum Steering<'i> {
    /// No row is steered.
    None,
    /// One intervention for every row: it sees the pass as it is.
    One(&'i (dyn Intervention + 'i)),
    /// Several, or one for some of the rows.
    Mixed(Mixed<'i>),
}

impl<'i> Steering<'i> {
    /// The steering of these rows, in the order of the batch.
    pub fn of(rows: &[Option<&'i Arc<dyn Intervention + 'i>>]) -> Self {
        let mut groups: Vec<(&'i Arc<dyn Intervention + 'i>, Vec<u32>)> = Vec::new();
        for (row, intervention) in rows.iter().enumerate() {
            let Some(intervention) = *intervention else { continue };
            match groups.iter_mut().find(|(other, _)| same_intervention(Some(*other), Some(intervention))) {
                Some((_, members)) => members.push(row as u32),
                None => groups.push((intervention, vec![row as u32])),
            }
        }
        match &groups[..] {
            [] => Self::None,
            [(one, members)] if members.len() == rows.len() => Self::One(&***one),
            _ => {
                let groups: Vec<_> = groups.into_iter().map(|(one, members)| (&**one, members)).collect();
                let mut taps: Vec<Tap> = groups.iter().flat_map(|(one, _)| one.taps()).copied().collect();
                taps.sort_unstable();
                taps.dedup();
                Self::Mixed(Mixed { taps, groups })
            }
        }
    }

    /// The intervention to give to a pass over these rows.
    pub fn as_intervention(&self) -> Option<&dyn Intervention> {
        match self {
            Self::None => None,
            Self::One(one) => Some(*one),
            Self::Mixed(mixed) => Some(mixed),
        }
    }
}

/// Blocks that run before an intervention changes anything: up to there a row is like every other one with its tokens.
pub(super) fn untouched_blocks(blocks: usize, intervention: Option<&dyn Intervention>) -> usize {
    let taps = intervention.map_or(&[][..], |one| one.taps());
    let before = |tap: &Tap| if tap.site == Site::ResidPost { tap.layer + 1 } else { tap.layer };
    taps.iter().map(before).min().unwrap_or(blocks).min(blocks)
}

impl Intervention for Mixed<'_> {
    fn taps(&self) -> &[Tap] {
        &self.taps
    }

    fn apply(&self, tap: Tap, x: &Tensor, context: &HookContext) -> Result<Option<Tensor>> {
        let rows = x.dim(0)?;
        // Where each row of the result is found in what follows: x itself, then what the interventions gave.
        let (mut parts, mut places) = (vec![x.clone()], (0..rows as u32).collect::<Vec<_>>());
        let mut length = rows;
        for (intervention, members) in self.groups.iter().filter(|(one, _)| one.taps().contains(&tap)) {
            let mine = x.index_select(&Tensor::new(&members[..], x.device())?, 0)?; // [members, width]
            let pick = |values: &[usize]| members.iter().map(|&row| values[row as usize]).collect::<Vec<_>>();
            let positions: Vec<u32> = members.iter().map(|&row| context.positions[row as usize]).collect();
            let answer: Option<Vec<bool>> =
                context.answer.map(|answer| members.iter().map(|&row| answer[row as usize]).collect());
            let context = HookContext {
                segments: &Segments::packed(members.iter().map(|_| 1), 0),
                positions: &positions,
                answer: answer.as_deref(),
                jobs: &pick(context.jobs),
            };
            let Some(changed) = intervention.apply(tap, &mine, &context)? else { continue };
            if changed.shape() != mine.shape() {
                candle_core::bail!(
                    "an intervention returned shape {:?} for an input of shape {:?}",
                    changed.shape(),
                    mine.shape()
                );
            }
            for (at, &row) in members.iter().enumerate() {
                places[row as usize] = (length + at) as u32;
            }
            length += members.len();
            parts.push(changed);
        }
        if parts.len() == 1 {
            return Ok(None);
        }
        Tensor::cat(&parts, 0)?.index_select(&Tensor::new(places, x.device())?, 0).map(Some)
    }
}
