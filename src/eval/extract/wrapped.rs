//! Code between tags of another markup: HTML, BBCode, LaTeX, Org, the marks of code models, one span of code.

use std::sync::LazyLock;

use regex::Regex;

/// What stands between the first opening tag at a line's beginning and the tag that closes it, without entities where
/// the markup has them.
pub(super) fn inner(text: &str) -> Option<String> {
    if let Some(span) = text.trim().strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return (!span.contains(['`', '\n'])).then(|| format!("{span}\n"));
    }
    let opening = OPENING.captures(text)?;
    let end = opening.get(0)?.end();
    let tag = opening.get(1).map(|tag| tag.as_str().to_ascii_lowercase());
    let closing = match &tag {
        None if opening.get(2).is_some() => "\\end{".to_string(),
        None => "#+end".to_string(),
        Some(tag) if text[..end].trim_end().ends_with(']') => format!("[/{tag}]"),
        Some(tag) => format!("</{tag}>"),
    };
    let rest = text[end..].strip_prefix('\n').unwrap_or(&text[end..]);
    // ASCII case only: the positions are those of the text.
    let inner = &rest[..rest.to_ascii_lowercase().find(&closing)?];
    let is_html = matches!(tag.as_deref(), Some("pre" | "code"));
    Some(if is_html { without_tags(inner) } else { inner.to_string() })
}

/// The text of an element: no tags inside, no entities.
fn without_tags(inner: &str) -> String {
    let text = TAG.replace_all(inner, "");
    let named = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&apos;", "'"), ("&nbsp;", " ")];
    let text = named.iter().fold(text.into_owned(), |text, (entity, c)| text.replace(entity, c));
    text.replace("&#x27;", "'").replace("&amp;", "&")
}

static OPENING: LazyLock<Regex> = LazyLock::new(|| {
    compile(
        r"(?imx)^[\ \t]*(?: [<\[] (pre|code|python|py|answer|response|solution|output|final_answer|result|script)
        (?:[\ =][^<>\]\n]{0,80})? [>\]] | (\\begin)\{(?:lstlisting|minted|verbatim|code|python)\}(?:\[[^\]\n]*\]|\{\w+\})*
        | (\#\+begin_(?:src|example))[^\n]* )",
    )
});

static TAG: LazyLock<Regex> = LazyLock::new(|| compile(r"</?(?:code|span|pre|b|i|div|p|br)\b[^<>\n]{0,200}>"));

fn compile(pattern: &str) -> Regex {
    // Impossible: the patterns are literals of this file, and the tests below use each.
    Regex::new(pattern).unwrap_or_else(|e| unreachable!("{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_taken_off() {
        for (text, code) in [
            ("<pre><code class=\"a\">x &lt; 1 &amp;&amp; y\n</code></pre>", "x < 1 && y\n"),
            ("a\n<python>\nx\n</python>", "x\n"),
            ("[PYTHON]\nx\n[/PYTHON]", "x\n"),
            ("\\begin{minted}{python}\nx\n\\end{minted}", "x\n"),
            ("#+BEGIN_SRC python\nx\n#+END_SRC", "x\n"),
            ("`x`", "x\n"),
        ] {
            assert_eq!(inner(text).as_deref(), Some(code), "{text:?}");
        }
        for text in ["x = '<pre>'", "<pre>", "a `x`", "`x` and `y`", "``"] {
            assert!(inner(text).is_none_or(|inner| inner.trim().is_empty()), "{text:?}");
        }
    }
}
