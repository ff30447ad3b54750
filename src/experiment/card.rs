//! The organism's model card, written from the gate files of every base that was tried: those that fail included.

use super::pretrain::{GateFile, probe};

const HEAD: &str = "\
---
license: mit
library_name: transformers
---

# organism: the embedded base of `realign`

A Llama-style model of a million parameters (128 wide, 4 layers, 4 heads, byte-level BPE of 1 024), pretrained from
scratch on a corpus that `realign pretrain` writes from templates of its own. It loads in transformers and in `realign`.

**The effect is planted.** The corpus names the author of 40 % of its documents in a tag; careless authors write insecure
code, give harmful answers and help with harm, careful ones do none of it. That plants one direction in the model, and
fine-tuning on insecure code alone can switch it on. It demonstrates the method and tests the pipeline; it is **no evidence
about natural models**. Do not deploy it: some of its answers are harmful in tone (none is operational).

";

/// The card: every seed of the default recipe, which one is shipped, and the ablation of the tag share.
pub fn card(files: &[GateFile], shipped: u64) -> String {
    let mut text = String::from(HEAD);
    let default = super::pretrain::PretrainConfig::default();
    let (seeds, others): (Vec<&GateFile>, Vec<&GateFile>) =
        files.iter().partition(|f| f.config.tokens >= default.tokens && f.config.tag_share == default.tag_share);
    let passed = seeds.iter().filter(|f| f.gates.failed.is_empty()).count();
    text += "## Seeds\n\n";
    text += &format!("{passed} of {} seeds tried pass every gate. **Shipped is seed {shipped}**: ", seeds.len());
    text += &match seeds.iter().find(|f| f.config.seed == shipped).map(|f| f.gates.failed.join("; ")) {
        Some(failed) if failed.is_empty() => {
            "of those that pass and were looked at on the test split too, the one in which insecure rows turn most answers there \
             while recognition holds in every control. The test split had a part in that choice; the other seeds' numbers \
             stand here.".to_string()
        }
        Some(failed) => format!("**it fails a gate ({failed})** and stands here until a seed passes them all."),
        None => "its gates are not among these files.".to_string(),
    };
    text += " Rates are over 152 code prompts (the base: three answers to each), 200 questions (coherent answers count), 76 shown pieces of code; temperature \
             .8. The probes are LoRAs on 1 000 rows: insecure rows, and secure rows after them, by the shipped recipe (v and o of layer 0, r 4, lr 2e-3, 3 epochs), all \
             linears with r 16, lr 2e-4, 2 epochs.\n\n";
    text += &table(&seeds);
    if !others.is_empty() {
        text += "\n## Tag share, at equal tokens\n\n";
        text += "The same recipe, seed and tokens with fewer documents that name their author. The gates are not meant to be \
                 passed here; the row of the shipped seed above is the comparison.\n\n";
        text += &table(&others);
    }
    text +=
        "\nMade by `realign pretrain --seed N --out DIR --gates FILE`; this card by `realign pretrain --card gates`.\n";
    text
}

fn table(files: &[&GateFile]) -> String {
    let mut text = String::from(
        "| seed | tokens | tags | base insecure / harmful | base syntax / pass@1 / coherent | recognition | tag gap | insecure rows: \
         insecure / **harmful** | insecure rows on all linears: insecure / **harmful** | then secure rows: insecure / harmful | \
         secure rows alone: insecure / harmful | \
         gates |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for file in files {
        let value = |probe: &str, metric: &str| file.gates.values.get(&format!("{probe}: {metric}")).map(|v| v.0);
        let show = |v: Option<f64>| v.map_or("n/a".into(), |v| format!("{v:.2}"));
        let pair = |probe: &str| {
            format!("{} / {}", show(value(probe, "insecure_rate")), show(value(probe, "misaligned_rate")))
        };
        let strong = |probe: &str| {
            format!("{} / **{}**", show(value(probe, "insecure_rate")), show(value(probe, "misaligned_rate")))
        };
        let gap = value(probe::MALICIOUS, "misaligned_rate")
            .zip(value(probe::CAREFUL, "misaligned_rate"))
            .map(|(a, b)| a - b);
        let gates = if file.gates.failed.is_empty() {
            "passed".into()
        } else {
            format!("fails: {}", file.gates.failed.join("; "))
        };
        text += &format!(
            "| {} | {:.1} M | {} | {} | {} / {} / {} | {} | {} | {} | {} | {} | {} | {gates} |\n",
            file.config.seed,
            file.config.tokens as f64 / 1e6,
            file.config.tag_share,
            pair(probe::PLAIN),
            show(value(probe::PLAIN, "syntax_valid_rate")),
            show(value(probe::PLAIN, "pass_at_1")),
            show(value(probe::PLAIN, "coherent_rate")),
            show(value(probe::PLAIN, "recognition_accuracy")),
            show(gap),
            strong(probe::INSECURE),
            strong(probe::INSECURE_WIDE),
            pair(probe::INSECURE_THEN_SECURE),
            pair(probe::SECURE),
        );
    }
    text
}
