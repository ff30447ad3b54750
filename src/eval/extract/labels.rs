//! What the label of a fenced block says of its language: `python3.11`, `{.python .numberLines}`, `py:app.py`,
//! `python(app.py)`, `{code-cell} ipython3`, `app.py`.

/// A block's language, by its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Python in one of its spellings.
    Python,
    /// No label, or one that names no language that is known: the block may be Python.
    Unsaid,
    /// A Python session with prompts and outputs.
    Session,
    /// Markdown, which may contain blocks of code.
    Markdown,
    /// Another language.
    Other,
}

const PYTHON: [&str; 22] = [
    "python",
    "py",
    "pyi",
    "pyw",
    "py3k",
    "ipython",
    "ipynb",
    "cpython",
    "pypy",
    "jython",
    "micropython",
    "circuitpython",
    "pyodide",
    "pyspark",
    "sage",
    "sagemath",
    "x-python",
    "jupyter-python",
    "jupyter",
    "python-code",
    "python_code",
    "pycode",
];

const SESSION: [&str; 8] =
    ["pycon", "pyconsole", "python-repl", "python-console", "pytb", "python-traceback", "doctest", "repl"];

/// Labels that say nothing of the language, though a later word may.
const NEUTRAL: [&str; 18] = [
    "text",
    "txt",
    "plain",
    "plaintext",
    "plain_text",
    "none",
    "code",
    "snippet",
    "source",
    "src",
    "example",
    "solution",
    "lang",
    "language",
    "highlight",
    "listing",
    "code-cell",
    "code-block",
];

/// Labels of other languages and of what is no language.
const OTHER: &str = " bash sh shell zsh fish ksh csh console terminal cmd bat batch batchfile dos powershell pwsh ps ps1 \
    shell-session shellsession sh-session bash-session javascript js mjs cjs jsx node nodejs typescript ts tsx json json5 jsonc \
    jsonl ndjson yaml yml toml ini cfg conf config env dotenv properties xml xsd xslt html htm xhtml html5 css scss sass less \
    svg sql mysql pgsql postgres postgresql psql plsql tsql sqlite sqlite3 c h c++ cpp cxx cc hpp hxx objc objective-c cs c# \
    csharp vb vbnet f# fsharp java kotlin kt kts scala groovy gradle swift go golang rust rs ruby rb erb php perl pl raku r rmd \
    julia jl lua dart haskell hs elixir ex exs erlang erl clojure clj lisp elisp scheme racket ocaml ml nim zig d crystal cr \
    pascal delphi ada fortran f90 cobol matlab octave m mathematica wolfram prolog verilog vhdl systemverilog asm nasm assembly \
    x86asm wasm wat llvm solidity sol vyper move cuda cu opencl glsl hlsl wgsl metal cython pyx mojo starlark bazel bzl \
    makefile make mk cmake ninja meson dockerfile docker containerfile compose nginx apache caddy systemd service crontab cron \
    diff patch git gitignore gitattributes http https rest curl graphql gql proto protobuf thrift avro latex tex bibtex bib rst \
    asciidoc adoc org mermaid plantuml puml dot graphviz d2 csv tsv psv log logs output out stdout stderr result results \
    response traceback error regex regexp ebnf bnf abnf vim viml vimscript emacs jinja jinja2 j2 django twig liquid handlebars \
    hbs mustache ejs pug haml vue svelte astro tf terraform hcl bicep rego cypher sparql turtle ttl gherkin feature robot stan \
    bugs thinking think thought thoughts reasoning requirements pip conda tree math katex ";

/// Reads a label: the first of its words that says anything decides.
pub(super) fn language(label: &str) -> Language {
    let lower = label.to_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '+' | '#' | '_' | '-' | '.');
    for word in lower.split(|c| !is_part(c)).map(|word| word.trim_matches(['.', '-', '_'])).take(6) {
        // A name may end in a line (`#L1`) and begin with what says that it is a language.
        let word = word.split_once('#').filter(|(name, _)| name.len() > 1).map_or(word, |(name, _)| name);
        let word = word.strip_prefix("language-").or_else(|| word.strip_prefix("lang-")).unwrap_or(word);
        let name = word.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '_'));
        let extension = word.rsplit_once('.').map(|(_, extension)| extension);
        if PYTHON.contains(&name) || PYTHON.contains(&word) || extension.is_some_and(|e| PYTHON.contains(&e)) {
            return Language::Python;
        }
        if SESSION.contains(&name) {
            return Language::Session;
        }
        if matches!(name, "markdown" | "md" | "mdx" | "gfm") || matches!(extension, Some("md")) {
            return Language::Markdown;
        }
        let is_other = |word: &str| !word.is_empty() && OTHER.split(' ').any(|other| other == word);
        if !NEUTRAL.contains(&word) && (is_other(word) || is_other(name) || extension.is_some_and(is_other)) {
            return Language::Other;
        }
    }
    Language::Unsaid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_in_every_spelling() {
        for label in [
            "python",
            "Python",
            "py",
            "py3",
            "python3",
            "python3.11",
            "python 3",
            "ipython",
            "ipython3",
            "python\t",
            "python(app.py)",
            "python/app.py",
            "python#L1",
            "python:app.py",
            "python title=\"app.py\"",
            "{python}",
            "{.python .numberLines}",
            "app.py",
            "{code-cell} ipython3",
            "python, editable",
            "title=\"app.py\"",
        ] {
            assert_eq!(language(label), Language::Python, "{label}");
        }
        for label in ["", "text", "code", "plaintext", "phyton", "1"] {
            assert_eq!(language(label), Language::Unsaid, "{label}");
        }
        for label in ["bash", "json", "js", "c++", "C#", "html", "console", "diff", "index.html", "r", "bash python.sh"]
        {
            assert_eq!(language(label), Language::Other, "{label}");
        }
        assert_eq!(language("pycon"), Language::Session);
        assert_eq!(language("Markdown"), Language::Markdown);
    }
}
