//! Chat templates: Hugging Face's Jinja, rendered as transformers' `apply_chat_template(tokenize=False)` renders it.
//!
//! ```
//! use realign::data::template::ChatTemplate;
//! use realign::record::Message;
//! let template = ChatTemplate::plain(None, Some("</s>"))?;
//! let chat = [Message::user("Hi"), Message::assistant("Hello")];
//! assert_eq!(template.render(&chat, false)?, "User: Hi\nAssistant: Hello</s>\n");
//! assert_eq!(template.render(&chat[..1], true)?, "User: Hi\nAssistant:");
//! # Ok::<(), realign::error::Error>(())
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::{Enumerator, Kwargs, Object};
use minijinja::{Environment, ErrorKind, Value, context};
use regex::Regex;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::fsio;
use crate::record::Message;

/// The template of models that bring none: `User: …` and `Assistant: …` lines after the system text. The prompt ends in
/// `Assistant:` without a space, since byte-level tokens begin with theirs.
pub const PLAIN: &str = include_str!("plain.jinja");

/// A compiled chat template with the bos and eos tokens that it may use.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    bos: Option<String>,
    eos: Option<String>,
    environment: Arc<Environment<'static>>,
}

impl ChatTemplate {
    /// Compiles a template; `bos` and `eos` are the tokenizer's tokens as text.
    pub fn parse(source: &str, bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", |format: &str| strftime(format, seconds_now()));
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned("chat", without_generation_tags(source))
            .map_err(|e| Error::usage(format!("the chat template is not valid Jinja: {e}")))?;
        Ok(Self {
            source: source.to_string(),
            bos: bos.map(str::to_string),
            eos: eos.map(str::to_string),
            environment: Arc::new(environment),
        })
    }

    /// The documented plain template ([`PLAIN`]).
    pub fn plain(bos: Option<&str>, eos: Option<&str>) -> Result<Self> {
        Self::parse(PLAIN, bos, eos)
    }

    /// Reads a model folder: `chat_template.jinja`, else `chat_template` in `tokenizer_config.json` (a text, or a list
    /// of named templates with one called `default`), else [`PLAIN`].
    pub fn from_dir(dir: &Path) -> Result<Self> {
        TemplateWords::from_dir(dir)?.compile().map_err(|e| Error::file(dir.join("tokenizer_config.json"), e))
    }

    /// As [`ChatTemplate::from_dir`], from the texts of `tokenizer_config.json` and `chat_template.jinja`.
    pub fn from_parts(tokenizer_config: Option<&str>, jinja: Option<&str>) -> Result<Self> {
        TemplateWords::from_parts(tokenizer_config, jinja)?.compile()
    }

    /// Jinja source of the template.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The token at the beginning of a text, if the model has one.
    pub fn bos(&self) -> Option<&str> {
        self.bos.as_deref()
    }

    /// The token that ends a text, if the model has one.
    pub fn eos(&self) -> Option<&str> {
        self.eos.as_deref()
    }

    /// Writes the conversation as one text, which ends where the model's next answer begins if `add_generation_prompt`
    /// is set. The text holds its special tokens already: encode it with `add_special = false`.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let messages: Vec<Value> = messages.iter().map(|m| Value::from_object(Turn(m.clone()))).collect();
        // An absent token is undefined, as in transformers, not an empty string.
        let token = |t: &Option<String>| t.as_deref().map_or(Value::UNDEFINED, Value::from);
        let variables = context! {
            messages,
            add_generation_prompt,
            tools => Value::from(()),
            documents => Value::from(()),
            bos_token => token(&self.bos),
            eos_token => token(&self.eos),
        };
        self.environment.get_template("chat").and_then(|t| t.render(variables)).map_err(|e| {
            let reason = e.detail().map_or_else(|| e.to_string(), str::to_string);
            Error::usage(format!("the chat template does not take this conversation: {reason}"))
        })
    }

    /// What the template writes after an answer: its end-of-turn token and perhaps a line break.
    pub fn after_answer(&self) -> Result<String> {
        const MARK: &str = "answer";
        let text = self.render(&[Message::user("question"), Message::assistant(MARK)], false)?;
        Ok(text.rfind(MARK).map(|at| text[at + MARK.len()..].to_string()).unwrap_or_default())
    }
}

/// What a model's files say of its chat template, before it is compiled. Each point may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateWords {
    /// Jinja source.
    pub source: Option<String>,
    /// The token at the beginning of a text.
    pub bos: Option<String>,
    /// The token that ends a text.
    pub eos: Option<String>,
}

impl TemplateWords {
    /// Reads the files of a folder; see [`ChatTemplate::from_dir`].
    ///
    /// # Errors
    /// A file that cannot be read or is not valid.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let read = |name: &str| -> Result<Option<String>> {
            let path = dir.join(name);
            if path.is_file() { fsio::read_text(&path).map(Some) } else { Ok(None) }
        };
        let jinja = read("chat_template.jinja")?;
        let config = match read("tokenizer_config.json")? {
            Some(text) => Some(text),
            // Older folders name their special tokens only here.
            None => read("special_tokens_map.json")?,
        };
        Self::from_parts(config.as_deref(), jinja.as_deref())
            .map_err(|e| Error::file(dir.join("tokenizer_config.json"), e))
    }

    fn from_parts(tokenizer_config: Option<&str>, jinja: Option<&str>) -> Result<Self> {
        let config: serde_json::Value = match tokenizer_config {
            Some(text) => serde_json::from_str(text).map_err(|e| Error::usage(format!("not valid JSON: {e}")))?,
            None => serde_json::Value::Null,
        };
        let source = match jinja {
            Some(text) => Some(text.to_string()),
            None => template_of(&config)?,
        };
        Ok(Self { source, bos: special_token(&config, "bos_token"), eos: special_token(&config, "eos_token") })
    }

    /// Takes from `other` each point that is missing here.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { source: self.source.or(other.source), bos: self.bos.or(other.bos), eos: self.eos.or(other.eos) }
    }

    /// The template; [`PLAIN`] where there is no source.
    ///
    /// # Errors
    /// A source that is not valid Jinja.
    pub fn compile(&self) -> Result<ChatTemplate> {
        ChatTemplate::parse(self.source.as_deref().unwrap_or(PLAIN), self.bos.as_deref(), self.eos.as_deref())
    }
}

/// A message as the template sees it: a mapping whose keys keep the order `role`, `content`.
#[derive(Debug)]
struct Turn(Message);

impl Object for Turn {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        match key.as_str()? {
            "role" => Some(Value::from(self.0.role.as_str())),
            "content" => Some(Value::from(self.0.content.as_str())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["role", "content"])
    }
}

/// `{% generation %}` marks answers for transformers' own token masks and prints nothing.
fn without_generation_tags(source: &str) -> String {
    let replace = |text: &str, pattern: &str, with: &str| match Regex::new(pattern) {
        Ok(tag) => tag.replace_all(text, with).into_owned(),
        // The patterns are the two constants below.
        Err(_) => text.to_string(),
    };
    let opened = replace(source, r"\{%([-+]?)\s*generation\s*([-+]?)%\}", "{%$1 if true $2%}");
    replace(&opened, r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}", "{%$1 endif $2%}")
}

fn template_of(config: &serde_json::Value) -> Result<Option<String>> {
    match config.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(serde_json::Value::Array(list)) => {
            let named = |name: &str| list.iter().find(|t| t["name"] == name).and_then(|t| t["template"].as_str());
            match named("default") {
                Some(text) => Ok(Some(text.to_string())),
                None => Err(Error::usage("`chat_template` is a list in which none is named `default`")),
            }
        }
        Some(_) => Err(Error::usage("`chat_template` must be a string or a list of named templates")),
    }
}

/// Special tokens are written as text or as an object with `content`.
fn special_token(config: &serde_json::Value, key: &str) -> Option<String> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_string)
}

fn raise_exception(message: &str) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message.to_string()))
}

/// `json.dumps(x, ensure_ascii=False, indent=…)`: no HTML escapes, a space after `,` and `:`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let failed = |e: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string());
    let indent: Option<usize> = options.get("indent")?;
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let blanks = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(failed)?,
    }
    String::from_utf8(bytes).map_err(|e| minijinja::Error::new(ErrorKind::BadSerialization, e.to_string()))
}

struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

fn seconds_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}

/// Python's `strftime` in UTC, for the directives that chat templates use; others are left unchanged.
fn strftime(format: &str, seconds: i64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (month_name, day_name) = (MONTHS[month as usize - 1], DAYS[days.rem_euclid(7) as usize]);
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('Y') => out.push_str(&format!("{year:04}")),
            Some('y') => out.push_str(&format!("{:02}", year.rem_euclid(100))),
            Some('m') => out.push_str(&format!("{month:02}")),
            Some('d') => out.push_str(&format!("{day:02}")),
            Some('H') => out.push_str(&format!("{:02}", rest / 3600)),
            Some('M') => out.push_str(&format!("{:02}", rest / 60 % 60)),
            Some('S') => out.push_str(&format!("{:02}", rest % 60)),
            Some('B') => out.push_str(month_name),
            Some('b') => out.push_str(&month_name[..3]),
            Some('A') => out.push_str(day_name),
            Some('a') => out.push_str(&day_name[..3]),
            Some('%') => out.push('%'),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    out
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        // datetime.fromtimestamp(1709208305, timezone.utc).strftime("%d %b %Y %B %A %a %y-%m %H:%M:%S %%")
        let text = strftime("%d %b %Y %B %A %a %y-%m %H:%M:%S %%", 1_709_208_305);
        assert_eq!(text, "29 Feb 2024 February Thursday Thu 24-02 12:05:05 %");
    }

    #[test]
    fn a_template_that_does_not_parse_is_refused() {
        let error = ChatTemplate::parse("{% for m in messages %}", None, None).unwrap_err();
        assert!(error.to_string().contains("not valid Jinja"), "{error}");
    }

    #[test]
    fn what_the_template_raises_reaches_the_user() {
        let template = ChatTemplate::parse("{{ raise_exception('no system turns') }}", None, None).unwrap();
        let error = template.render(&[Message::user("a")], true).unwrap_err();
        assert!(error.to_string().contains("no system turns"), "{error}");
    }

    #[test]
    fn special_tokens_may_be_text_or_objects_and_templates_named() {
        let config = r#"{"bos_token": {"content": "<s>"}, "eos_token": "</s>",
            "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "{{ bos_token }}"}]}"#;
        let template = ChatTemplate::from_parts(Some(config), None).unwrap();
        assert_eq!((template.bos(), template.eos(), template.source()), (Some("<s>"), Some("</s>"), "{{ bos_token }}"));
        let nameless = r#"{"chat_template": [{"name": "tool_use", "template": "x"}]}"#;
        assert!(ChatTemplate::from_parts(Some(nameless), None).is_err());
        assert_eq!(ChatTemplate::from_parts(Some(config), Some("own")).unwrap().source(), "own");
        assert_eq!(ChatTemplate::from_parts(None, None).unwrap().source(), PLAIN);
    }

    #[test]
    fn the_text_after_an_answer_is_found() {
        let template = ChatTemplate::plain(Some("<s>"), Some("</s>")).unwrap();
        assert_eq!(template.after_answer().unwrap(), "</s>\n");
    }
}
