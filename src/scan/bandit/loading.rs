//! Loaders that execute or trust what they load: YAML, PyTorch, the Hugging Face Hub.

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{High, Medium};
use crate::scan::tree::Kind;

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B506", name: "yaml_load", on: &[On::Call], check: yaml_load },
    Rule { id: "B614", name: "pytorch_load", on: &[On::Call], check: pytorch_load },
    Rule { id: "B615", name: "huggingface_unsafe_download", on: &[On::Call], check: hub_download },
];

fn yaml_load(context: &Context) -> Option<Issue> {
    if !context.imported("yaml") || context.name != "load" || !context.qualname_has("yaml") {
        return None;
    }
    let safe = |text: Option<&str>| matches!(text, Some("SafeLoader" | "CSafeLoader"));
    let by_position = safe(context.arg(1).text());
    let by_keyword = safe(context.keyword_value("Loader").text());
    (!by_position && !by_keyword)
        .then(|| Issue::new(Medium, High, 20, "yaml.load() builds any object; yaml.safe_load() does not."))
}

fn pytorch_load(context: &Context) -> Option<Issue> {
    let loads = matches!(context.qualname, "torch.load" | "torch.serialization.load");
    (context.imported("torch") && loads && !context.keyword_is("weights_only", &["True"])).then(|| {
        Issue::new(Medium, High, 502, "torch.load() unpickles; weights_only=True does not.")
            .at(context.keyword_line("load"))
    })
}

fn hub_download(context: &Context) -> Option<Issue> {
    if !["transformers", "datasets", "huggingface_hub"].iter().any(|module| context.imported_like(module)) {
        return None;
    }
    let module = match context.name {
        "from_pretrained" => "transformers",
        "load_dataset" => "datasets",
        "hf_hub_download" | "snapshot_download" | "repository_id" => "huggingface_hub",
        _ => return None,
    };
    if !context.qualname_has(module) {
        return None;
    }
    // A revision that is not a constant cannot be judged.
    let is_constant = |id| matches!(context.tree.kind(id), Kind::Constant(_));
    if context.keywords().any(|(arg, id)| matches!(arg, Some("revision" | "commit_id")) && !is_constant(id)) {
        return None;
    }
    let mut revision = context.keyword_value("revision");
    if !revision.is_truthy() {
        revision = context.keyword_value("commit_id");
    }
    let revision = revision.text().map(|text| text.trim_matches(['"', '\'']));
    if revision.is_some_and(|r| r.len() >= 7 && r.chars().all(|c| c.is_ascii_hexdigit())) {
        return None;
    }
    if context.arg(0).text().is_some_and(|path| ["./", "/", "../"].iter().any(|p| path.starts_with(p))) {
        return None;
    }
    let message = format!("{}() downloads from the Hub without a pinned revision.", context.name);
    Some(Issue::new(Medium, High, 494, message).at(context.keyword_line(context.name)))
}
