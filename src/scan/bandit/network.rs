//! The network: certificates, time limits, open interfaces, SSH and SNMP, a debugger on the web.

use super::context::{Context, Literal};
use super::{Issue, On, Rule};
use crate::record::Level::{High, Low, Medium};
use crate::scan::tree::Kind;

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B104", name: "hardcoded_bind_all_interfaces", on: &[On::Str], check: bind_all },
    Rule { id: "B113", name: "request_without_timeout", on: &[On::Call], check: no_timeout },
    Rule { id: "B201", name: "flask_debug_true", on: &[On::Call], check: flask_debug },
    Rule { id: "B501", name: "request_with_no_cert_validation", on: &[On::Call], check: no_verification },
    Rule { id: "B507", name: "ssh_no_host_key_verification", on: &[On::Call], check: unknown_host_key },
    Rule { id: "B508", name: "snmp_insecure_version_check", on: &[On::Call], check: snmp_version },
    Rule { id: "B509", name: "snmp_crypto_check", on: &[On::Call], check: snmp_encryption },
    Rule { id: "B601", name: "paramiko_calls", on: &[On::Call], check: paramiko },
    Rule { id: "B612", name: "logging_config_insecure_listen", on: &[On::Call], check: logging_listen },
];

const VERBS: [&str; 7] = ["get", "options", "head", "post", "put", "patch", "delete"];
const HTTPX: [&str; 4] = ["request", "stream", "Client", "AsyncClient"];

fn library<'t>(context: &Context<'t>) -> &'t str {
    context.qualname.split('.').next().unwrap_or_default()
}

fn is_requests(context: &Context) -> bool {
    library(context) == "requests" && VERBS.contains(&context.name)
}

fn is_request(context: &Context) -> bool {
    is_requests(context)
        || library(context) == "httpx" && (VERBS.contains(&context.name) || HTTPX.contains(&context.name))
}

fn bind_all(context: &Context) -> Option<Issue> {
    (context.tree.str_value(context.node) == Some("0.0.0.0"))
        .then(|| Issue::new(Medium, Medium, 605, "All interfaces may be bound."))
}

fn no_timeout(context: &Context) -> Option<Issue> {
    // A value that is no literal counts as missing, as in Bandit.
    if is_requests(context) && context.keyword_value("timeout") == Literal::Nothing {
        return Some(Issue::new(Medium, Low, 400, "A request without a timeout."));
    }
    (is_request(context) && context.keyword_is("timeout", &["None"]))
        .then(|| Issue::new(Medium, Low, 400, "A request with its timeout set to None."))
}

fn flask_debug(context: &Context) -> Option<Issue> {
    (context.imported_like("flask") && context.qualname.ends_with(".run") && context.keyword_is("debug", &["True"]))
        .then(|| {
            Issue::new(High, Medium, 94, "A Flask application runs with its debugger, which executes any code.")
                .at(context.keyword_line("debug"))
        })
}

fn no_verification(context: &Context) -> Option<Issue> {
    (is_request(context) && context.keyword_is("verify", &["False"])).then(|| {
        Issue::new(High, High, 295, "A request without certificate checks.").at(context.keyword_line("verify"))
    })
}

fn unknown_host_key(context: &Context) -> Option<Issue> {
    if !context.imported_like("paramiko") || context.name != "set_missing_host_key_policy" {
        return None;
    }
    let policy = *context.args.first()?;
    let name = match context.tree.kind(policy) {
        Kind::Call { func, .. } => context.tree.last_name(*func),
        _ => context.tree.last_name(policy),
    };
    matches!(name, Some("AutoAddPolicy" | "WarningPolicy"))
        .then(|| Issue::new(High, Medium, 295, "Paramiko trusts unknown host keys."))
}

fn snmp_version(context: &Context) -> Option<Issue> {
    let old = match context.keyword_value("mpModel") {
        Literal::Int(Some(model)) => model == 0 || model == 1,
        Literal::Float(model) => model == 0.0 || model == 1.0,
        _ => false,
    };
    (context.qualname == "pysnmp.hlapi.CommunityData" && old).then(|| {
        Issue::new(Medium, High, 319, "SNMP versions 1 and 2 are not secure.").at(context.keyword_line("CommunityData"))
    })
}

fn snmp_encryption(context: &Context) -> Option<Issue> {
    (context.qualname == "pysnmp.hlapi.UsmUserData" && context.args.len() < 3).then(|| {
        Issue::new(Medium, High, 319, "SNMP version 3 without encryption.").at(context.keyword_line("UsmUserData"))
    })
}

fn paramiko(context: &Context) -> Option<Issue> {
    (context.imported_like("paramiko") && context.name == "exec_command")
        .then(|| Issue::new(Medium, Medium, 78, "Paramiko runs a command on the other side: check what is in it."))
}

fn logging_listen(context: &Context) -> Option<Issue> {
    (context.qualname == "logging.config.listen" && context.keyword("verify").is_none())
        .then(|| Issue::new(Medium, High, 94, "logging.config.listen() executes what it is sent."))
}
