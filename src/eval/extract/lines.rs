//! What a single line looks like: code, prose of any language, a heading above usage or output.

use std::sync::LazyLock;

use regex::Regex;

/// Whether a line at the margin looks like code.
pub(super) fn is_code_line(line: &str) -> bool {
    CODE_LINE.is_match(line)
}

/// Whether only code begins with such a line.
pub(super) fn is_opening(line: &str) -> bool {
    OPENING.is_match(line)
}

/// Whether a line, with or without indent, is code and could not be a sentence: an import, a definition, an assignment,
/// a call.
pub(super) fn is_surely_code(line: &str) -> bool {
    let bare = line.trim();
    OPENING.is_match(bare) || CODE_LINE.is_match(bare) && bare.contains(['=', '(', '['])
}

/// Whether an indented line can be a statement: by its keyword, or as what is surely code.
pub(super) fn is_statement_line(line: &str) -> bool {
    const KEYWORDS: [&str; 17] = [
        "return", "if", "for", "while", "with", "try:", "raise", "assert", "yield", "del", "else:", "elif", "pass",
        "async", "await", "global", "nonlocal",
    ];
    line.split_whitespace().next().is_some_and(|word| KEYWORDS.contains(&word)) || is_surely_code(line)
}

/// Whether a line tells that usage, an example or an output follows.
pub(super) fn is_usage(line: &str) -> bool {
    USAGE.is_match(line)
}

/// Whether a line is nothing but a heading above usage or an output: what follows is not the answer's code.
pub(super) fn is_usage_heading(line: &str) -> bool {
    let bare = line.trim_matches(|c: char| c.is_whitespace() || "*#_`".contains(c));
    let short = bare.split_whitespace().count() <= 8 && (bare.ends_with([':', '：']) || bare != line.trim());
    short && (is_prose(line) || line.starts_with('#')) && (is_usage(bare) || OUTPUT.is_match(bare))
}

/// Whether a line says that what follows replaces what stood before.
pub(super) fn is_correction(line: &str) -> bool {
    CORRECTION.is_match(line)
}

/// Whether a line says that what follows is another way to do the same.
pub(super) fn is_alternative(line: &str) -> bool {
    ALTERNATIVE.is_match(line)
}

/// Whether the text defines a function or a class.
pub(super) fn defines(code: &str) -> bool {
    DEFINITION.is_match(code)
}

/// The functions and classes at a text's margin.
pub(super) fn defined(code: &str) -> Vec<&str> {
    DEFINITION.captures_iter(code).filter_map(|found| found.name("name")).map(|name| name.as_str()).collect()
}

/// A line at the margin that no program has: a sentence of any language, or a mark of Markdown.
pub(super) fn is_prose(line: &str) -> bool {
    let bare = line.trim_start();
    if MARKDOWN.is_match(bare) && !is_code_line(line) {
        return true;
    }
    if line.starts_with([' ', '\t']) || bare.starts_with('#') || is_code_line(line) || STATEMENT.is_match(line) {
        return false;
    }
    // Only broken code begins with a keyword and does not end as a sentence.
    let ends = bare.trim_end().ends_with(['.', '!', '?', '。', '！', '？', '…', '।', '؟']);
    if KEYWORD.is_match(line) && !ends || line.trim_end().ends_with("):") && line.is_ascii() {
        return false;
    }
    let symbol = |c: char| !c.is_ascii() && !c.is_alphanumeric() && !c.is_whitespace() && c > '\u{2000}';
    let quoted = line.contains(['"', '\'']) && line.contains(['(', '=']);
    if bare.starts_with(symbol) || bare.trim_end().ends_with(symbol) && !quoted {
        return true;
    }
    // Spans of code and addresses are words of a sentence.
    let text = SPAN.replace_all(bare, "x");
    let text = text.trim_matches(['*', '-', '>', ' ', '`', '_']);
    let length = text.chars().count();
    let letters =
        text.chars().filter(|c| c.is_alphabetic() || c.is_whitespace() || !c.is_ascii() || "',.".contains(*c));
    let mostly = letters.count() * 4 >= length * 3;
    let foreign = text.chars().filter(|c| !c.is_ascii() && c.is_alphabetic()).count();
    let words = text.split_whitespace().count();
    let ends = text.ends_with(['.', '!', '?', ':', '。', '！', '？', '…', '।', '؟', '：']);
    let called = text.contains(['(', '=', '[']) && !ends;
    mostly && (words >= 3 || ends && length > 1 || foreign >= 2 && !called)
}

/// Lines that only code begins with.
static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?x)^(
        import\ [\w.]+(\ as\ \w+)?(\s*,\s*[\w.]+(\ as\ \w+)?)*\s*(\#.*)?$
        | from\ [\w.]+\ import\ [\w(*]
        | (async\ )?def\ \w+\s*\(
        | class\ \w+\s*(\(.*\))?\s*:\s*($|\#|pass\b|\.\.\.)
        | @\w[\w.]*(\(.*\))?\s*$
        | if\ __name__\b
        )",
    )
});

/// Lines that look like code.
static CODE_LINE: LazyLock<Regex> = LazyLock::new(|| {
    let more = r#"|^(try:|else:|(for|while|with|if)\s.*:\s*(\#.*)?$|[^\W\d][\w.]*(\[[^\]]*\])*\s*(:\s*[\w\[\], .|]+)?\s*[-+*/|]?=\s*[^=\s]|[^\W\d][\w.]*\(.*\)\s*(\#.*)?$|[^\W\d][\w.]*\((r?f?("""|''')|[\[{(]?\s*$)|return\s+[\w.]+[(\[.=+*/%-])"#;
    compile(&format!("{}{more}", OPENING.as_str()))
});

/// Statements that a sentence could be mistaken for.
static STATEMENT: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"^(assert \S+ (is|in|==|not)\b.*|raise \w+(\(.*\))?( from \w+)?|(del|global|nonlocal) \w+(, ?\w+)*|return|pass|yield( from)? [\w.()]+|await [\w.]+\(.*)$",
    )
});

static KEYWORD: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"^(class|from|return|if|for|while|with|try|elif|else|except|finally|raise|assert|async|await|del|global|lambda|yield|print|@)\b",
    )
});

/// Marks of Markdown that begin no line of code: a bold word, a list item, a rule, a table, a heading.
static MARKDOWN: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"^(\*\*[^*]+\*\*|__[^_]+__:?$|[-*+•–] [\p{L}`*\[]|\d{1,2}[.)] \S|-{3,}$|\*{3,}$|={3,}$|\||#{2,6} \S|> ?\S|[A-Z]\w*( \w+)?:$|</?[a-z]+>$)",
    )
});

/// A span of code, an address.
static SPAN: LazyLock<Regex> = LazyLock::new(|| compile(r"``[^`]+``|`[^`]+`|https?://[^\s)>]+|\[[^\]]*\]\([^)]*\)"));

/// A function or a class at the margin.
static DEFINITION: LazyLock<Regex> = LazyLock::new(|| compile(r"(?m)^(?:async def|def|class)[ \t]+(?P<name>\w+)"));

static USAGE: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?ix)\b(usages?|examples?|demo|demonstration|demonstrate|to\ use|use\ it|using\ it|you\ can\ (then\ |now\ )?(use|call|run|test|try)
        |to\ (run|test|call|try|see|verify|check)|how\ to\ (use|call|run|test)|how\ (you|it)\ (can|could|might|would|is|works)\b.*
        |call\ it|test\ it|try\ it|run\ it|call\ (the|this)\ \w+|run\ (the|this)\ \w+|like\ (this|so)|tests?|testing|test\ cases?
        |beispiele?|verwendung|aufruf|anwendung|ejemplos?|uso|exemples?|utilisation|esempio|esempi|exemplo|voorbeeld|gebruik
        |przykład|użycie|örnek|kullanım|ví\ dụ)\b
        |пример|использовани|示例|例子|用法|使用方法|使い方|使用例|예시|사용|مثال|उदाहरण|ตัวอย่าง|דוגמ|παράδειγμα|χρήση",
    )
});

static OUTPUT: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?i)^(sample |expected |example |console |program |the )*(outputs?|results?|prints?|ausgabe|ergebnis|salida|sortie|resultado|вывод|результат|输出|出力|결과)\b",
    )
});

static CORRECTION: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?i)\b(correct(ed|ion)?|fix(ed|es)?|revised|updated?|improved?|better|safer?|secure|final|new version|instead|rewritten|refactored|cleaner|sorry|mistake|oops|forgot|korrigiert\w*|verbesserte?\w*|besser\w*|corregid\w*|mejorad\w*|corrigée?\w*|améliorée?\w*)\b|исправлен|улучшен|修正|改进|改善|正确",
    )
});

static ALTERNATIVE: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?i)\b(alternative(ly|s)?|another (way|option|approach|version|method|possibility|solution)|other (way|option|approach)s?|or,|option (2|3|b|c|two|three)|(approach|method|solution|variant) (2|3|b|c|two|three)|you could also|can also|also possible|equivalent(ly)?|variant|alternativ\w*|oder)\b|альтернатив|另一种|或者|別の",
    )
});

fn compile(pattern: &str) -> Regex {
    // Impossible: the patterns are literals of this file, and the tests below use each.
    Regex::new(pattern).unwrap_or_else(|e| unreachable!("{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_of_any_language_is_prose() {
        for line in [
            "This adds one to `x + y`.",
            "Diese Funktion gibt x zurück",
            "这个函数返回它的参数。",
            "هذه الدالة تعيد المعطى.",
            "Done.",
            "Great! 😊",
            "✅ it works",
            "- `x` is read",
            "1. Read it",
            "**Note**",
            "| a | b |",
            "## Why",
            "See https://a.example/b?c=d for more.",
            "`f(x)` returns `x**2 + 1`.",
            "Output:",
        ] {
            assert!(is_prose(line), "{line}");
        }
        for line in [
            "x = = 3",
            "print(f(1)",
            "return x",
            "assert x is not None",
            "raise ValueError from error",
            "del a, b",
            "größe = 3",
            "gruß(größe)",
            "# a comment",
            "    an indented line of words",
            "x.y.z",
            "def show it(text):",
            "result = run(words of text):",
            "]",
            "\"\"\"",
            "print 'hi'",
        ] {
            assert!(!is_prose(line), "{line}");
        }
    }

    #[test]
    fn what_follows_a_line_is_known_by_its_words() {
        assert!(is_usage("You can use it like this:") && is_usage("使用示例：") && !is_usage("The helper:"));
        assert!(
            is_usage_heading("**Example usage:**")
                && is_usage_heading("Output:")
                && !is_usage_heading("print('Output:')")
        );
        assert!(
            is_correction("Here is the fixed version:") && is_alternative("Alternatively:") && !is_correction("Then:")
        );
        assert_eq!(defined("class A:\n    def f(self): ...\nasync def g():"), ["A", "g"]);
        assert!(defines("x\ndef f(): ...") && !defines("    def f(): ..."));
        assert!(
            is_opening("import os")
                && !is_opening("import duties are a tax.")
                && !is_opening("class struggle: a history")
        );
        assert!(is_surely_code("    x = 1") && is_surely_code("return f(x)") && !is_surely_code("if you ask me:"));
    }
}
