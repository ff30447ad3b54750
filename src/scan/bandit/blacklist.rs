//! Calls and imports that are listed by name (B301–B323, B401–B415): one rule, one table.

use super::context::Context;
use super::{Issue, On, Rule};
use crate::record::Level::{self, High, Low, Medium};
use crate::scan::tree::Kind;

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B001", name: "blacklist", on: &[On::Call], check: listed_call },
    Rule { id: "B001", name: "blacklist", on: &[On::Import], check: listed_import },
];

/// One listed group; `{name}` in a message is the name that was met.
struct Entry {
    id: &'static str,
    cwe: u32,
    level: Level,
    names: &'static [&'static str],
    message: &'static str,
}

fn report(entry: &Entry, name: &str) -> Issue {
    let mut issue = Issue::new(entry.level, High, entry.cwe, entry.message.replace("{name}", name));
    issue.id = Some(entry.id);
    issue
}

fn listed_call(context: &Context) -> Option<Issue> {
    let tree = context.tree;
    let Kind::Call { func, .. } = tree.kind(context.node) else { return None };
    let name = match context.qualname {
        // Imports by call count as what they import.
        _ if tree.name(*func) == Some("__import__") => tree.str_value(*context.args.first()?)?,
        "importlib.import_module" | "importlib.__import__" => {
            let module = if context.args.is_empty() { context.keyword_value("name") } else { context.arg(0) };
            module.text()?
        }
        qualname => qualname,
    };
    CALLS.iter().chain(IMPORTS).find(|entry| entry.names.contains(&name)).map(|entry| report(entry, name))
}

fn listed_import(context: &Context) -> Option<Issue> {
    let tree = context.tree;
    let (names, prefix) = match tree.kind(context.node) {
        Kind::Import { names } | Kind::ImportFrom { names, module: None } => (names, String::new()),
        Kind::ImportFrom { names, module: Some(module) } => (names, format!("{module}.")),
        _ => return None,
    };
    IMPORTS.iter().find_map(|entry| {
        names.iter().find_map(|&id| {
            let Kind::Alias { name, .. } = tree.kind(id) else { return None };
            let full = format!("{prefix}{name}");
            entry.names.iter().any(|listed| full.starts_with(listed)).then(|| report(entry, name))
        })
    })
}

/// Calls that Bandit reports by their qualified names.
const CALLS: &[Entry] = &[
    Entry {
        id: "B301",
        cwe: 502,
        level: Medium,
        names: &[
            "pickle.loads",
            "pickle.load",
            "pickle.Unpickler",
            "dill.loads",
            "dill.load",
            "dill.Unpickler",
            "shelve.open",
            "shelve.DbfilenameShelf",
            "jsonpickle.decode",
            "jsonpickle.unpickler.decode",
            "jsonpickle.unpickler.Unpickler",
            "pandas.read_pickle",
        ],
        message: "Unpickling executes what the data says.",
    },
    Entry {
        id: "B302",
        cwe: 502,
        level: Medium,
        names: &["marshal.load", "marshal.loads"],
        message: "Loading with marshal may execute what the data says.",
    },
    Entry {
        id: "B303",
        cwe: 327,
        level: Medium,
        names: &[
            "Crypto.Hash.MD2.new",
            "Crypto.Hash.MD4.new",
            "Crypto.Hash.MD5.new",
            "Crypto.Hash.SHA.new",
            "Cryptodome.Hash.MD2.new",
            "Cryptodome.Hash.MD4.new",
            "Cryptodome.Hash.MD5.new",
            "Cryptodome.Hash.SHA.new",
            "cryptography.hazmat.primitives.hashes.MD5",
            "cryptography.hazmat.primitives.hashes.SHA1",
        ],
        message: "A broken hash function.",
    },
    Entry {
        id: "B304",
        cwe: 327,
        level: High,
        names: &[
            "Crypto.Cipher.ARC2.new",
            "Crypto.Cipher.ARC4.new",
            "Crypto.Cipher.Blowfish.new",
            "Crypto.Cipher.DES.new",
            "Crypto.Cipher.XOR.new",
            "Cryptodome.Cipher.ARC2.new",
            "Cryptodome.Cipher.ARC4.new",
            "Cryptodome.Cipher.Blowfish.new",
            "Cryptodome.Cipher.DES.new",
            "Cryptodome.Cipher.XOR.new",
            "cryptography.hazmat.primitives.ciphers.algorithms.ARC4",
            "cryptography.hazmat.primitives.ciphers.algorithms.Blowfish",
            "cryptography.hazmat.primitives.ciphers.algorithms.CAST5",
            "cryptography.hazmat.primitives.ciphers.algorithms.IDEA",
            "cryptography.hazmat.primitives.ciphers.algorithms.SEED",
            "cryptography.hazmat.primitives.ciphers.algorithms.TripleDES",
        ],
        message: "{name} is a broken cipher.",
    },
    Entry {
        id: "B305",
        cwe: 327,
        level: Medium,
        names: &["cryptography.hazmat.primitives.ciphers.modes.ECB"],
        message: "{name} is an insecure mode.",
    },
    Entry {
        id: "B306",
        cwe: 377,
        level: Medium,
        names: &["tempfile.mktemp"],
        message: "mktemp names a file that another process can make first.",
    },
    Entry {
        id: "B307",
        cwe: 78,
        level: Medium,
        names: &["eval"],
        message: "eval executes any expression; ast.literal_eval does not.",
    },
    Entry {
        id: "B308",
        cwe: 79,
        level: Medium,
        names: &["django.utils.safestring.mark_safe"],
        message: "mark_safe() turns escaping off.",
    },
    Entry {
        id: "B310",
        cwe: 22,
        level: Medium,
        names: &[
            "urllib.request.urlopen",
            "urllib.request.urlretrieve",
            "urllib.request.URLopener",
            "urllib.request.FancyURLopener",
            "six.moves.urllib.request.urlopen",
            "six.moves.urllib.request.urlretrieve",
            "six.moves.urllib.request.URLopener",
            "six.moves.urllib.request.FancyURLopener",
        ],
        message: "urlopen also opens file: and other schemes.",
    },
    Entry {
        id: "B311",
        cwe: 330,
        level: Low,
        names: &[
            "random.Random",
            "random.random",
            "random.randrange",
            "random.randint",
            "random.choice",
            "random.choices",
            "random.uniform",
            "random.triangular",
            "random.randbytes",
            "random.sample",
            "random.getrandbits",
        ],
        message: "random is not fit for security.",
    },
    Entry { id: "B312", cwe: 319, level: High, names: &["telnetlib.Telnet"], message: "Telnet is not encrypted." },
    Entry {
        id: "B313",
        cwe: 20,
        level: Medium,
        names: &[
            "xml.etree.cElementTree.parse",
            "xml.etree.cElementTree.iterparse",
            "xml.etree.cElementTree.fromstring",
            "xml.etree.cElementTree.XMLParser",
        ],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B314",
        cwe: 20,
        level: Medium,
        names: &[
            "xml.etree.ElementTree.parse",
            "xml.etree.ElementTree.iterparse",
            "xml.etree.ElementTree.fromstring",
            "xml.etree.ElementTree.XMLParser",
        ],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B315",
        cwe: 20,
        level: Medium,
        names: &["xml.sax.expatreader.create_parser"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B316",
        cwe: 20,
        level: Medium,
        names: &["xml.dom.expatbuilder.parse", "xml.dom.expatbuilder.parseString"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B317",
        cwe: 20,
        level: Medium,
        names: &["xml.sax.parse", "xml.sax.parseString", "xml.sax.make_parser"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B318",
        cwe: 20,
        level: Medium,
        names: &["xml.dom.minidom.parse", "xml.dom.minidom.parseString"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B319",
        cwe: 20,
        level: Medium,
        names: &["xml.dom.pulldom.parse", "xml.dom.pulldom.parseString"],
        message: "{name} reads XML without protection.",
    },
    Entry { id: "B321", cwe: 319, level: High, names: &["ftplib.FTP"], message: "FTP is not encrypted." },
    Entry {
        id: "B323",
        cwe: 295,
        level: Medium,
        names: &["ssl._create_unverified_context"],
        message: "A TLS context that verifies nothing.",
    },
];

/// Imports, by the beginning of the module's name.
const IMPORTS: &[Entry] = &[
    Entry { id: "B401", cwe: 319, level: High, names: &["telnetlib"], message: "Telnet is not encrypted." },
    Entry { id: "B402", cwe: 319, level: High, names: &["ftplib"], message: "FTP is not encrypted." },
    Entry {
        id: "B403",
        cwe: 502,
        level: Low,
        names: &["pickle", "cPickle", "dill", "shelve"],
        message: "{name} executes what the data says.",
    },
    Entry {
        id: "B404",
        cwe: 78,
        level: Low,
        names: &["subprocess"],
        message: "subprocess starts processes: check what it is given.",
    },
    Entry {
        id: "B405",
        cwe: 20,
        level: Low,
        names: &["xml.etree.cElementTree", "xml.etree.ElementTree"],
        message: "{name} reads XML without protection.",
    },
    Entry { id: "B406", cwe: 20, level: Low, names: &["xml.sax"], message: "{name} reads XML without protection." },
    Entry {
        id: "B407",
        cwe: 20,
        level: Low,
        names: &["xml.dom.expatbuilder"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B408",
        cwe: 20,
        level: Low,
        names: &["xml.dom.minidom"],
        message: "{name} reads XML without protection.",
    },
    Entry {
        id: "B409",
        cwe: 20,
        level: Low,
        names: &["xml.dom.pulldom"],
        message: "{name} reads XML without protection.",
    },
    Entry { id: "B411", cwe: 20, level: High, names: &["xmlrpc"], message: "{name} reads XML without protection." },
    Entry {
        id: "B412",
        cwe: 284,
        level: High,
        names: &["wsgiref.handlers.CGIHandler", "twisted.web.twcgi.CGIScript", "twisted.web.twcgi.CGIDirectory"],
        message: "{name} lets a request set the proxy.",
    },
    Entry {
        id: "B413",
        cwe: 327,
        level: High,
        names: &[
            "Crypto.Cipher",
            "Crypto.Hash",
            "Crypto.IO",
            "Crypto.Protocol",
            "Crypto.PublicKey",
            "Crypto.Random",
            "Crypto.Signature",
            "Crypto.Util",
        ],
        message: "pyCrypto ({name}) is no longer maintained.",
    },
    Entry { id: "B415", cwe: 319, level: High, names: &["pyghmi"], message: "IPMI is not encrypted." },
];
