//! Weak hashes, weak keys, old TLS.

use super::context::{Context, Literal};
use super::{Issue, On, Rule};
use crate::record::Level::{self, High, Low, Medium};
use crate::scan::tree::Kind;

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B324", name: "hashlib", on: &[On::Call], check: weak_hash },
    Rule { id: "B502", name: "ssl_with_bad_version", on: &[On::Call], check: bad_tls_version },
    Rule { id: "B503", name: "ssl_with_bad_defaults", on: &[On::FunctionDef], check: bad_tls_default },
    Rule { id: "B504", name: "ssl_with_no_version", on: &[On::Call], check: no_tls_version },
    Rule { id: "B505", name: "weak_cryptographic_key", on: &[On::Call], check: weak_key },
];

const WEAK_HASHES: [&str; 4] = ["md4", "md5", "sha", "sha1"];
const WEAK_CRYPT: [&str; 3] = ["METHOD_CRYPT", "METHOD_MD5", "METHOD_BLOWFISH"];
const BAD_TLS: [&str; 9] = [
    "PROTOCOL_SSLv2",
    "SSLv2_METHOD",
    "SSLv23_METHOD",
    "PROTOCOL_SSLv3",
    "PROTOCOL_TLSv1",
    "SSLv3_METHOD",
    "TLSv1_METHOD",
    "PROTOCOL_TLSv1_1",
    "TLSv1_1_METHOD",
];

fn weak_hash(context: &Context) -> Option<Issue> {
    if context.qualname_has("hashlib") {
        let hash = match context.name {
            name if WEAK_HASHES.contains(&name) => name.to_string(),
            "new" => first_or(context, 0, "name").text()?.to_lowercase(),
            _ => return None,
        };
        let for_security = context.keyword("usedforsecurity").is_none_or(|v| v == Literal::Text("True"));
        return (WEAK_HASHES.contains(&hash.as_str()) && for_security)
            .then(|| Issue::new(High, High, 327, format!("{} is too weak for security.", hash.to_uppercase())));
    }
    if context.qualname_has("crypt") {
        let method = match context.name {
            "crypt" => first_or(context, 1, "salt"),
            "mksalt" => first_or(context, 0, "method"),
            _ => return None,
        };
        let method = method.text().filter(|m| WEAK_CRYPT.contains(m))?;
        return Some(Issue::new(Medium, High, 327, format!("crypt.{method} is too weak.")));
    }
    None
}

/// The argument at a position, or else by keyword.
fn first_or<'t>(context: &Context<'t>, position: usize, keyword: &str) -> Literal<'t> {
    if context.args.len() > position { context.arg(position) } else { context.keyword_value(keyword) }
}

fn bad_tls_version(context: &Context) -> Option<Issue> {
    let bad = |keyword: &str| context.keyword_is(keyword, &BAD_TLS);
    match context.qualname {
        "ssl.wrap_socket" => bad("ssl_version").then(|| {
            Issue::new(High, High, 327, "ssl.wrap_socket with an insecure protocol version.")
                .at(context.keyword_line("ssl_version"))
        }),
        "pyOpenSSL.SSL.Context" => bad("method").then(|| {
            Issue::new(High, High, 327, "SSL.Context with an insecure protocol version.")
                .at(context.keyword_line("method"))
        }),
        _ => (bad("method") || bad("ssl_version")).then(|| {
            Issue::new(Medium, Medium, 327, "A function is called with an insecure TLS version.")
                .at(context.keyword_line("method").or_else(|| context.keyword_line("ssl_version")))
        }),
    }
}

fn bad_tls_default(context: &Context) -> Option<Issue> {
    let Kind::FunctionDef { args, .. } = context.tree.kind(context.node) else { return None };
    let Kind::Arguments(arguments) = context.tree.kind(*args) else { return None };
    let bad = arguments.defaults.iter().any(|&default| match context.tree.kind(default) {
        Kind::Attribute { attr, .. } => BAD_TLS.contains(&attr.as_str()),
        _ => false,
    });
    bad.then(|| Issue::new(Medium, Medium, 327, "A parameter's default is an insecure TLS version."))
}

fn no_tls_version(context: &Context) -> Option<Issue> {
    (context.qualname == "ssl.wrap_socket" && context.keyword_value("ssl_version") == Literal::Nothing).then(|| {
        Issue::new(Low, Medium, 327, "ssl.wrap_socket without a protocol version.")
            .at(context.keyword_line("ssl_version"))
    })
}

/// Algorithm, sizes below which a key is broken (high) or weak (medium).
const DSA: (&str, [(i64, Level); 2]) = ("DSA", [(1024, High), (2048, Medium)]);
const RSA: (&str, [(i64, Level); 2]) = ("RSA", [(1024, High), (2048, Medium)]);
const EC: (&str, [(i64, Level); 2]) = ("EC", [(160, High), (224, Medium)]);

/// Curves below 224 bits; every other one, known or not, counts as large enough.
const SMALL_CURVES: [&str; 3] = ["SECP192R1", "SECT163K1", "SECT163R2"];

fn weak_key(context: &Context) -> Option<Issue> {
    let (algorithm, keyword, position) = match context.qualname {
        "cryptography.hazmat.primitives.asymmetric.dsa.generate_private_key" => (DSA, "key_size", 0),
        "cryptography.hazmat.primitives.asymmetric.rsa.generate_private_key" => (RSA, "key_size", 1),
        "Crypto.PublicKey.DSA.generate" | "Cryptodome.PublicKey.DSA.generate" => (DSA, "bits", 0),
        "Crypto.PublicKey.RSA.generate" | "Cryptodome.PublicKey.RSA.generate" => (RSA, "bits", 0),
        "cryptography.hazmat.primitives.asymmetric.ec.generate_private_key" => {
            let curve = match context.keyword_value("curve") {
                curve if curve.is_truthy() => curve,
                _ => context.arg(0),
            };
            let size = match curve.text() {
                Some(curve) if SMALL_CURVES.contains(&curve) => {
                    if curve == "SECP192R1" {
                        192
                    } else {
                        163
                    }
                }
                _ => 224,
            };
            return classify(EC, size as f64);
        }
        _ => return None,
    };
    let mut size = context.keyword_value(keyword);
    if !size.is_truthy() {
        size = context.arg(position);
    }
    match size {
        Literal::Int(Some(bits)) if bits != 0 => classify(algorithm, bits as f64),
        Literal::Float(bits) if bits != 0.0 => classify(algorithm, bits),
        // A missing size stands for 2048; a name says nothing.
        _ => None,
    }
}

fn classify((name, sizes): (&str, [(i64, Level); 2]), bits: f64) -> Option<Issue> {
    let (size, level) = sizes.into_iter().find(|(size, _)| bits < *size as f64)?;
    Some(Issue::new(level, High, 326, format!("{name} keys below {size} bits can be broken.")))
}
