//! The scanners against the tools they stand for: `tests/fixtures/scan/expected.json` is what Bandit 1.9.4,
//! Radon 6.0.1, Ruff 0.16.4 and CPython 3.13's `compile()` said of the files beside it (`make_expected.py` wrote
//! it).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use realign::cli::scan::{FailOn, ScanArgs, ScanFormat, scan};
use realign::record::{FileScan, Level};
use realign::scan::{FStringPositions, MAX_BYTES, ScanOptions, check_options, scan_many, scan_named, scan_source};
use serde_json::{Value, json};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scan")
}

fn expected() -> Value {
    let text = std::fs::read_to_string(folder().join("expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Name, scan and expectation of every fixture.
fn fixtures() -> Vec<(String, FileScan, Value)> {
    let expected = expected();
    let files = expected["files"].as_object().unwrap();
    assert_eq!(files.len(), 11, "the fixtures that were compared");
    files
        .iter()
        .map(|(name, expected)| {
            let source = std::fs::read_to_string(folder().join(name)).unwrap();
            (name.clone(), scan_source(&source, &ScanOptions::default()), expected.clone())
        })
        .collect()
}

fn check_equal(name: &str, what: &str, ours: &[Value], theirs: &Value) {
    let theirs = theirs.as_array().unwrap();
    let differences = differences(ours, theirs);
    assert!(differences.is_empty(), "{name}, {what}:\n{}", differences.join("\n"));
}

/// Position by position.
fn differences(ours: &[Value], theirs: &[Value]) -> Vec<String> {
    (0..ours.len().max(theirs.len()))
        .filter(|&i| ours.get(i) != theirs.get(i))
        .map(|i| format!("  ours {:?}\n  real {:?}", ours.get(i), theirs.get(i)))
        .take(5)
        .collect()
}

fn bandit(scan: &FileScan) -> Vec<Value> {
    scan.bandit
        .iter()
        .map(|f| {
            json!({
                "id": f.id, "test_name": f.test_name, "cwe": f.cwe, "line": f.line, "end_line": f.end_line,
                "column": f.column, "severity": f.severity.as_str(), "confidence": f.confidence.as_str(),
            })
        })
        .collect()
}

#[test]
fn every_finding_is_bandits_own_to_the_column() {
    for (name, scan, expected) in fixtures() {
        check_equal(&name, "bandit", &bandit(&scan), &expected["bandit"]);
    }
}

#[test]
fn the_fixtures_hold_every_id_that_bandit_has() {
    let ids: BTreeSet<String> =
        fixtures().iter().flat_map(|(_, scan, _)| scan.bandit.iter().map(|f| f.id.clone())).collect();
    // python -c "from bandit.core.extension_loader import MANAGER as m; print(len(m.plugins_by_id) + len(m.blacklist_by_id))"
    assert_eq!(ids.len(), 75, "{ids:?}");
}

#[test]
fn a_changed_or_missing_finding_is_noticed() {
    let (_, scan, expected) = fixtures().into_iter().find(|(name, ..)| name == "bandit_plain.py").unwrap();
    let theirs = expected["bandit"].as_array().unwrap().clone();
    assert!(differences(&bandit(&scan), &theirs).is_empty());
    let mut changed = theirs.clone();
    changed[3]["column"] = json!(changed[3]["column"].as_u64().unwrap() + 1);
    assert_eq!(differences(&bandit(&scan), &changed).len(), 1);
    assert!(!differences(&bandit(&scan), &theirs[1..]).is_empty());
}

#[test]
fn a_piece_of_an_f_string_stands_where_the_python_of_choice_sees_it() {
    let source = "def f(x):\n    return g(f'{x}'\n        'select {x} from t ')\n";
    let at = |fstring_positions| {
        let scan = scan_source(source, &ScanOptions { fstring_positions, ..ScanOptions::default() });
        scan.bandit.iter().map(|f| (f.id.clone(), f.line, f.end_line, f.column)).collect::<Vec<_>>()
    };
    // bandit 1.9.4 on Python 3.13.0 and on 3.11.7
    assert_eq!(at(FStringPositions::Pieces), [("B608".to_string(), 3, 3, 8)]);
    assert_eq!(at(FStringPositions::Whole), [("B608".to_string(), 2, 3, 13)]);
}

#[test]
fn every_block_is_as_complex_as_radon_says() {
    let mut blocks = 0;
    for (name, scan, expected) in fixtures() {
        let ours: Vec<Value> = scan
            .complexity
            .iter()
            .map(|b| json!({"name": b.name, "kind": b.kind, "line": b.line, "value": b.value}))
            .collect();
        check_equal(&name, "radon", &ours, &expected["complexity"]);
        blocks += ours.len();
    }
    assert_eq!(blocks, 41);
}

#[cfg(feature = "ruff")]
#[test]
fn every_diagnostic_is_ruffs_own() {
    let mut diagnostics = 0;
    for (name, scan, expected) in fixtures() {
        let ours: Vec<Value> = scan
            .ruff
            .iter()
            .map(|f| json!({"code": f.code, "line": f.line, "column": f.column, "message": f.message}))
            .collect();
        check_equal(&name, "ruff", &ours, &expected["ruff"]);
        diagnostics += ours.len();
    }
    assert!(diagnostics > 100, "{diagnostics}");
}

#[test]
fn valid_is_what_cpython_compiles() {
    for (name, scan, expected) in fixtures() {
        assert_eq!(json!(scan.syntax_valid), expected["syntax_valid"], "{name}");
    }
    let expected = expected();
    let snippets = expected["snippets"].as_array().unwrap();
    assert!(snippets.len() > 250, "{}", snippets.len());
    let sources: Vec<&str> = snippets.iter().map(|s| s["source"].as_str().unwrap()).collect();
    let scans = scan_many(&sources, &ScanOptions::default());
    let wrong: Vec<_> = snippets
        .iter()
        .zip(&scans)
        .filter(|(snippet, scan)| snippet["valid"] != json!(scan.syntax_valid))
        .map(|(snippet, _)| format!("{snippet}"))
        .collect();
    assert!(wrong.is_empty(), "CPython says otherwise of {}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Beginnings of the texts of `snippets.json` on which we differ from CPython, as `src/eval/scan/syntax.rs` says.
const NOT_CHECKED: [&str; 7] = [
    "f'{x:{y:{z:{w}}}}'",
    "'\\ud800'",
    "x.__debug__ += 1",
    "for x in y:\n for x",
    "with x:\n with x",
    "b0,b1,b2",
    "match x:\n    case [a0,a1",
];

#[test]
fn valid_is_what_cpython_compiles_of_tricky_texts() {
    let text = std::fs::read_to_string(folder().join("snippets.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let snippets = all["snippets"].as_array().unwrap();
    assert_eq!(snippets.len(), 739);
    let sources: Vec<&str> = snippets.iter().map(|s| s[0].as_str().unwrap()).collect();
    let scans = scan_many(&sources, &ScanOptions::default());
    let wrong: Vec<_> = snippets
        .iter()
        .zip(&scans)
        .filter(|(snippet, scan)| snippet[1] != json!(scan.syntax_valid))
        .map(|(snippet, _)| snippet[0].as_str().unwrap())
        .collect();
    let unexplained: Vec<_> = wrong.iter().filter(|s| !NOT_CHECKED.iter().any(|known| s.starts_with(known))).collect();
    assert!(unexplained.is_empty(), "CPython says otherwise of {unexplained:#?}");
    assert!(wrong.len() <= 7, "{wrong:?}");
}

#[test]
fn readability_is_what_pythons_own_ast_counts() {
    let text = std::fs::read_to_string(folder().join("readability.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let counted = |source: &str| {
        let s = scan_source(source, &ScanOptions::default());
        json!([s.functions, s.docstrings, s.annotated, s.function_lines, s.nesting, s.bound_names, s.short_names])
    };
    let files = expected["files"].as_object().unwrap();
    assert_eq!(files.len(), 11);
    for (name, numbers) in files {
        assert_eq!(counted(&std::fs::read_to_string(folder().join(name)).unwrap()), *numbers, "{name}");
    }
    let bodies = std::fs::read_to_string(folder().join("../organism/bodies.jsonl")).unwrap();
    let expected = expected["bodies"].as_array().unwrap();
    assert_eq!((bodies.lines().count(), expected.len()), (152, 152));
    for (body, numbers) in bodies.lines().zip(expected) {
        let body: Value = serde_json::from_str(body).unwrap();
        let code = body["code"].as_str().unwrap();
        assert_eq!(counted(code), *numbers, "{code}");
    }
}

#[test]
fn comments_in_the_code_silence_nothing() {
    let scan = scan_source("import os  # noqa\neval(x)  # nosec # noqa: F821\n", &ScanOptions::default());
    assert_eq!(scan.bandit.iter().map(|f| f.id.as_str()).collect::<Vec<_>>(), ["B307"]);
    #[cfg(feature = "ruff")]
    assert_eq!(scan.ruff.iter().map(|f| f.code.as_str()).collect::<Vec<_>>(), ["F401", "F821"]);
}

#[cfg(feature = "ruff")]
#[test]
fn the_selection_decides_what_ruff_reports() {
    let codes = |select: &[&str]| {
        let options =
            ScanOptions { ruff_select: select.iter().map(|s| s.to_string()).collect(), ..ScanOptions::default() };
        check_options(&options).unwrap();
        let scan = scan_source("import os\nx = 1 \n", &options);
        scan.ruff.into_iter().map(|f| f.code).collect::<Vec<_>>()
    };
    assert_eq!(codes(&["F"]), ["F401"]);
    assert_eq!(codes(&["W291"]), ["W291"]);
    assert!(codes(&[]).is_empty());
    let unknown = ScanOptions { ruff_select: vec!["QQQ".to_string()], ..ScanOptions::default() };
    assert!(check_options(&unknown).unwrap_err().to_string().contains("QQQ"));
}

#[cfg(feature = "ruff")]
#[test]
fn a_package_may_re_export_what_it_imports() {
    let source = "__all__ = ['submodule']\n";
    let scans = scan_named(&[("pkg/__init__.py", source), ("pkg/other.py", source)], &ScanOptions::default());
    assert_eq!(scans.iter().map(|s| s.ruff.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn many_texts_come_back_in_their_order() {
    let sources: Vec<String> = (0..200).map(|n| "x = 1\n".repeat(n)).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let scans = scan_many(&sources, &ScanOptions::default());
    assert_eq!(scans.iter().map(|s| s.lines).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    assert!(scan_many(&[], &ScanOptions::default()).is_empty());
}

#[test]
fn deep_and_long_texts_are_survived() {
    let deep = [
        ["x"; 20_000].join(" + "),
        ["'select a from b'"; 2_500].join(" + "),
        ["'select a from b'"; 20_000].join(" + "),
        format!("x{}", ".y".repeat(20_000)),
        format!("x{}", "()".repeat(20_000)),
        format!("{}x", "not ".repeat(20_000)),
        format!("{}x", "-".repeat(20_000)),
        format!("{}1", "lambda a, b: ".repeat(20_000)),
        format!("{}1", "x if y else ".repeat(20_000)),
        format!("{}{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("{}{}", "f'{".repeat(5_000), "}'".repeat(5_000)),
        format!("if x: pass\n{}", "elif x: pass\n".repeat(20_000)),
        (0..2_000).map(|n| format!("{}if x:\n", " ".repeat(n))).collect::<String>(),
        (0..20_000).map(|n| format!("a{} = a{n} + a{n}\n", n + 1)).collect::<String>() + "open(f'/x/{a20000}')",
        "x = [\n".to_string() + &"    1,\n".repeat(100_000) + "]\n",
        "x = 1\n".repeat(MAX_BYTES / 6 + 1),
        "\0".repeat(1_000),
        "\u{feff}x = 1\r\ny = 2\rz = 3".to_string(),
    ];
    let sources: Vec<&str> = deep.iter().map(String::as_str).collect();
    let scans = scan_many(&sources, &ScanOptions::default());
    let valid: Vec<bool> = scans.iter().map(|s| s.syntax_valid).collect();
    let chain = scans[1].bandit.iter().filter(|f| f.id == "B608").count();
    assert!(!valid[0] && valid[1], "CPython refuses the first for its depth");
    assert!(chain > 2_000, "{chain}");
    assert!(valid[14], "a long list is not deep");
    assert!(!valid[15] && scans[15].lines as usize == MAX_BYTES / 6 + 1, "too long to parse, not to count");
    assert!(!valid[16]);
    assert!(valid[17]);
}

/// What takes linear time on ordinary code must not take quadratic time on strange code: a megabyte of each.
#[test]
fn strange_texts_take_no_strange_time() {
    let repeated = |text: &str| text.repeat(MAX_BYTES / text.len() - 100);
    let strange = [
        "def f(x):\n".to_string() + &repeated(" x = x + x\n") + " return f'<p>{x}</p>'\n",
        "def f(x, y):\n".to_string() + &repeated(" open(x + y)\n"),
        format!("x = {{{}}}", repeated("'pwd':1,")),
        format!("x = ({})", repeated("'<p>' + x, ")),
        repeated("x = 'select ' + y + ' from ' + z\n"),
        repeated("class C: x = 1\n"),
        repeated("if x: import a as b\n"),
    ];
    let started = std::time::Instant::now();
    let sources: Vec<&str> = strange.iter().map(String::as_str).collect();
    let options = ScanOptions { ruff_select: Vec::new(), ..ScanOptions::default() };
    for (scan, source) in scan_many(&sources, &options).iter().zip(&sources) {
        assert!(scan.syntax_valid, "{}", &source[..60]);
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

/// Panics on scanning threads, which the scanner catches and a test would not see.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name() == Some("scan") {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            default(info);
        }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(
        text in any::<String>(),
        pieces in proptest::collection::vec(
            prop::sample::select(vec![
                "def f(a, b='x'):\n    ", "return ", "f'{", "}'", "'", "\"\"\"", "(", ")", "[", "]", "{", "}", ":",
                ",", "=", "x", "os.system", "'select a from b'", " + ", " % ", ".format(", "\n", "\n    ", "\n        ",
                "class C:\n    ", "try:\n    pass\nexcept:\n    pass\n", "import a as b\n", "from . import x\n", "lambda ",
                "match x:\n    case ", "*", "**", "async ", "await ", "if ", "else ", "for x in ", "\\", "\0", "é", "𐍈",
                "@", "->", ":=", "1", "0x", "b'\\xff'", "#", "\r", "\t", "\x0c", "global x\n", "with a as b:\n    ",
            ]),
            0..60,
        ),
    ) {
        count_panics();
        let pieces = pieces.concat();
        scan_many(&[&text, &pieces], &ScanOptions::default());
        prop_assert_eq!(PANICS.load(Ordering::Relaxed), 0);
    }
}

/// Which of our own rules fire, and on which line.
fn check_own(source: &str, expected: &[(&str, u32)]) {
    let scan = scan_source(source, &ScanOptions::default());
    assert!(scan.syntax_valid, "{source}");
    let found: Vec<(&str, u32)> = scan.own_rules.iter().map(|f| (f.id.as_str(), f.line)).collect();
    assert_eq!(found, expected, "{source}");
}

#[test]
fn a_name_from_outside_joined_to_a_folder_is_reported() {
    let open = |body: &str| format!("import os\nfrom pathlib import Path\nBASE = '/srv'\ndef read(name):\n{body}");
    for body in [
        "    return open(os.path.join(BASE, name)).read()\n",
        "    with open(BASE + '/' + name) as f:\n        return f.read()\n",
        "    return open(f'{BASE}/{name}').read()\n",
        "    return open('%s/%s' % (BASE, name)).read()\n",
        "    return open('/srv/{}'.format(name)).read()\n",
        "    return (Path(BASE) / name).read_text()\n",
        "    return Path(BASE, name).read_bytes()\n",
        "    return Path(BASE).joinpath(name).open()\n",
        "    return send_file(os.path.join(BASE, name))\n",
        "    return flask.send_file(os.path.normpath(os.path.join(BASE, name.strip())))\n",
        "    return os.remove(BASE + name)\n",
    ] {
        check_own(&open(body), &[("R022", 5)]);
    }
    check_own(
        &open("    path = os.path.join(BASE, name)\n    full = os.path.realpath(path)\n    return open(full)\n"),
        &[("R022", 7)],
    );
    check_own(
        &open(
            "    path = Path(BASE) / name\n    if '..' in name:\n        raise ValueError\n    return path.read_text()\n",
        ),
        &[("R022", 8)],
    );
    check_own("import os\nname = request.args['name']\nopen(os.path.join('/srv', name))\n", &[("R022", 3)]);
    check_own("def save(upload):\n    upload.save(os.path.join('/srv', upload.filename))\n", &[("R022", 2)]);
}

#[test]
fn a_path_that_stays_inside_is_not_reported() {
    let open = |body: &str| format!("import os\nfrom pathlib import Path\nBASE = '/srv'\ndef read(name):\n{body}");
    for body in [
        "    return open(os.path.join(BASE, os.path.basename(name))).read()\n",
        "    name = secure_filename(name)\n    return open(os.path.join(BASE, name)).read()\n",
        "    return (Path(BASE) / Path(name).name).read_text()\n",
        "    path = (Path(BASE) / name).resolve()\n    if not path.is_relative_to(BASE):\n        raise ValueError\n    return path.read_text()\n",
        "    path = os.path.realpath(os.path.join(BASE, name))\n    if not path.startswith(BASE + os.sep):\n        raise ValueError\n    return open(path)\n",
        "    path = os.path.realpath(os.path.join(BASE, name))\n    if os.path.commonpath([BASE, path]) != BASE:\n        raise ValueError\n    return open(path)\n",
        "    path = (Path(BASE) / name).resolve()\n    if Path(BASE) not in path.parents:\n        raise ValueError\n    return open(path)\n",
        "    if name not in ALLOWED:\n        raise ValueError\n    return open(os.path.join(BASE, name))\n",
        "    return open(os.path.join(BASE, 'fixed.txt')).read() + name\n",
        "    return open(name).read()\n",
        "    return os.path.join(BASE, name)\n",
        "    return name.replace('a', 'b' + name)\n",
    ] {
        check_own(&open(body), &[]);
    }
    check_own("def read(number: int):\n    return open(f'/srv/{number}.txt')\n", &[]);
}

#[test]
fn a_value_from_outside_in_html_is_reported_unless_escaped() {
    let page = |body: &str| {
        format!("import html\nfrom html import escape as esc\nPAGE = '<h1>{{}}</h1>'\ndef page(name, rows):\n{body}")
    };
    for body in [
        "    return f'<h1>{name}</h1>'\n",
        "    return '<p>' + name + '</p>'\n",
        "    return \"<a href='\" + name + \"'>x</a>\"\n",
        "    return '<p>%s</p>' % name\n",
        "    return '<p>{}</p>'.format(name)\n",
        "    return '<p>{n}</p>'.format(n=name.strip())\n",
        "    return PAGE.format(name)\n",
        "    return ''.join(f'<li>{row}</li>' for row in rows)\n",
        "    return f'<p>{html.escape(rows[0])}</p>' + f'<b>{name}</b>'\n",
    ] {
        check_own(&page(body), &[("R079", 5)]);
    }
    for body in [
        "    return f'<h1>{html.escape(name)}</h1>'\n",
        "    name = html.escape(name)\n    return f'<h1>{name}</h1>'\n",
        "    safe = esc(name)\n    return '<p>' + safe + '</p>'\n",
        "    return '<p>%s</p>' % esc(name)\n",
        "    return PAGE.format(markupsafe.escape(name))\n",
        "    return Markup('<b>{}</b>').format(name)\n",
        "    return f'<p>{len(name)} {int(rows)}</p>'\n",
        "    return ''.join(f'<li>{esc(row)}</li>' for row in rows)\n",
        "    return f'hello {name}, 1 < 2'\n",
        "    return f'usage: tool <file> {name}'\n",
        "    return '<p>fixed</p>'\n",
    ] {
        check_own(&page(body), &[]);
    }
    check_own("def page(count: int):\n    return f'<p>{count}</p>'\n", &[]);
    check_own("print(f'<p>{input()}</p>')\n", &[("R079", 1)]);
}

#[test]
fn a_text_from_outside_as_a_template_is_reported() {
    for (line, reported) in [
        ("template.format(user=user)", true),
        ("template.format(user)", true),
        ("str.format(template, user)", true),
        ("template.format_map(vars(user))", true),
        ("template % user", true),
        ("note % (user, 1)", true),
        ("note % {'a': user}", true),
        ("('Dear ' + note + ' {}').format(user)", true),
        ("logger.info(note, user)", true),
        ("logging.getLogger('x').warning(note, user)", true),
        ("'{}'.format(template)", false),
        ("'%s' % template", false),
        ("GREETING.format(user)", false),
        ("TABLE[template].format(user)", false),
        ("TABLE.get(template, 'x').format(user)", false),
        ("logger.info('%s', note)", false),
        ("logger.info(note)", false),
        ("note % user", false),
        ("count % 3", false),
        ("note.format()", false),
        ("f'{template} {user}'", false),
    ] {
        let source = format!("GREETING = 'hello {{}}'\ndef f(template, user, note, count: int):\n    return {line}\n");
        check_own(&source, if reported { &[("R134", 3)] } else { &[] });
    }
    check_own("def f(fmt: str, n):\n    fmt = 'fixed %s'\n    return fmt % n\n", &[]);
    check_own("import logging\ntext = input()\nprint(text.format(config))\n", &[("R134", 3)]);
}

#[test]
fn functions_are_counted_with_their_docs_types_length_and_nesting() {
    let source = "\
import numpy as np
total = 0
def documented(a: int, *rest: str, key: bool = True, **more: object) -> int:
    '''Doc.'''
    for i in rest:
        if i:
            while a:
                pass
        elif key:
            try:
                pass
            except E as err:
                pass
    return a

class Holder:
    def method(self, value: int):
        def inner(x, tmp, var1):
            return [item for item in x if (y := item)]
        return inner

    @classmethod
    async def build(cls): return cls
";
    let scan = scan_source(source, &ScanOptions::default());
    assert_eq!(scan.lines, 23);
    assert_eq!((scan.functions, scan.docstrings, scan.annotated), (4, 1, 3));
    // documented 12, method 4, inner 2, build 1; for > if > while, and elif no deeper than its if.
    assert_eq!(scan.function_lines, 12 + 4 + 2 + 1);
    assert_eq!(scan.nesting, 3);
    // np total documented a rest key more i err Holder method value inner x tmp var1 item y build
    assert_eq!(scan.bound_names, 19);
    // np a i x y, tmp, var1
    assert_eq!(scan.short_names, 7);
}

fn args(path: &str, format: ScanFormat, fail_on: Option<FailOn>) -> ScanArgs {
    let select = ["E4", "F"].map(String::from).to_vec();
    ScanArgs { paths: vec![folder().join(path)], format, select, fail_on, cross_check: false }
}

#[test]
fn the_command_fails_only_when_asked_to() {
    for format in [ScanFormat::Table, ScanFormat::Json, ScanFormat::Csv] {
        scan(&args("bandit_rest.py", format, None)).unwrap();
    }
    let high = scan(&args("bandit_rest.py", ScanFormat::Csv, Some(FailOn::High))).unwrap_err();
    assert_eq!(high.exit_code(), 1, "{high}");
    scan(&args("complexity.py", ScanFormat::Csv, Some(FailOn::Medium))).unwrap();
    let missing = scan(&args("no such file.py", ScanFormat::Csv, None)).unwrap_err();
    assert_eq!(missing.exit_code(), 2, "{missing}");
}

#[test]
fn the_record_reads_back_as_it_was_written() {
    let (_, scan, _) = fixtures().swap_remove(0);
    let text = serde_json::to_string(&scan).unwrap();
    assert_eq!(serde_json::from_str::<FileScan>(&text).unwrap(), scan);
    assert!(scan.bandit.iter().all(|f| f.severity >= Level::Low));
}
