//! The protocol's words: what is sent for a verdict, and what a reply says.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::eval::judge::{Verdict, integer, parse, weighted_score};
use crate::eval::judge_prompt::SCORED;

/// Maximum number of tokens that a verdict may take.
const MAX_TOKENS: u32 = 12;

/// Log-probabilities asked for at each token, the most that the protocol allows.
const TOP: u32 = 20;

/// Parameters that some servers do not take; a verdict can be had without them.
const OPTIONAL: [&str; 5] = ["top_logprobs", "logprobs", "seed", "temperature", "max_tokens"];

/// What is kept of a reply: enough to read the verdict from it once more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reply {
    /// Text of the reply.
    pub content: String,
    /// The likeliest tokens where the answer begins, with their log-probabilities; empty where the server tells none.
    pub first: Vec<(String, f64)>,
    /// Tokens read, as the server counts them.
    pub prompt_tokens: u64,
    /// Tokens written, as the server counts them.
    pub completion_tokens: u64,
}

/// A request's body without the parameters that the server refused before.
pub(super) fn body(model: &str, prompt: &str, refused: &[&str]) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "seed": 0,
        "max_tokens": MAX_TOKENS,
        "logprobs": true,
        "top_logprobs": TOP,
    });
    if let Some(fields) = body.as_object_mut() {
        refused.iter().for_each(|name| {
            fields.remove(*name);
        });
        // Newer servers know it by another name.
        if refused.contains(&"max_tokens") {
            fields.insert("max_completion_tokens".into(), MAX_TOKENS.into());
        }
        if refused.contains(&"logprobs") {
            fields.remove("top_logprobs");
        }
    }
    body
}

/// The optional parameter that an error message complains of.
pub(super) fn refused_parameter(message: &str, refused: &[&str]) -> Option<&'static str> {
    OPTIONAL.into_iter().find(|name| !refused.contains(name) && message.contains(name))
}

/// The message of an error's body, or the body itself.
pub(super) fn error_message(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let error = parsed.as_ref().and_then(|v| v.get("error"));
    let text = error.and_then(|e| e.get("message").unwrap_or(e).as_str()).unwrap_or(body);
    let one_line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    one_line.chars().take(300).collect()
}

/// Whether an error says that there is no money left: no later try can help.
pub(super) fn is_out_of_quota(body: &str) -> bool {
    body.contains("insufficient_quota")
}

/// Reads a reply's body; otherwise says what is wrong with it.
pub(super) fn read(body: &str) -> Result<Reply, String> {
    let value: Value = serde_json::from_str(body).map_err(|e| format!("the reply is not JSON: {e}"))?;
    if value.get("error").is_some_and(|e| !e.is_null()) {
        return Err(format!("the reply is an error: {}", error_message(body)));
    }
    let choice = value["choices"].get(0).ok_or("the reply has no `choices`")?;
    let message = choice.get("message").filter(|m| m.is_object()).ok_or("the reply's choice has no `message`")?;
    let count = |name: &str| value["usage"][name].as_u64().unwrap_or(0);
    Ok(Reply {
        // What the server itself refused to answer has no content.
        content: message["content"].as_str().unwrap_or_default().to_string(),
        first: first_tokens(&choice["logprobs"]["content"]),
        prompt_tokens: count("prompt_tokens"),
        completion_tokens: count("completion_tokens"),
    })
}

/// The alternatives at the first token that is not blank.
fn first_tokens(positions: &Value) -> Vec<(String, f64)> {
    let positions = positions.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_blank = |p: &&Value| p["token"].as_str().unwrap_or_default().trim().is_empty();
    let Some(first) = positions.iter().find(|p| !is_blank(p)) else { return Vec::new() };
    let top = first["top_logprobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    top.iter().filter_map(|t| Some((t["token"].as_str()?.to_string(), t["logprob"].as_f64()?))).collect()
}

/// A reply's verdict.
///
/// With log-probabilities it is the published weighted score, and numbers that hold less than a quarter of the probability
/// are no score, whatever stands in the text. Without, it is the number that the text is. The same where every number among
/// the tokens is a single digit: such a server's tokenizer writes 85 as 8 and 5, and the first digit's distribution is not
/// the score's.
pub(super) fn verdict(aspect: &str, reply: &Reply) -> Verdict {
    let said = parse(aspect, &reply.content);
    if !SCORED.contains(&aspect) || reply.first.is_empty() {
        return said;
    }
    let tokens: Vec<(&str, f64)> = reply.first.iter().map(|(token, p)| (token.as_str(), *p)).collect();
    let in_digits = tokens.iter().filter(|(t, _)| integer(t).is_some()).all(|(t, _)| t.trim().len() == 1);
    match (weighted_score(&tokens), said) {
        (Some(_), said) if in_digits => said,
        (Some(score), _) => Verdict::Score(score),
        (None, Verdict::Score(_)) => Verdict::Unreadable,
        (None, said) => said,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn reply(content: &str, first: &[(&str, f64)]) -> Reply {
        let first = first.iter().map(|(t, p)| (t.to_string(), p.ln())).collect();
        Reply { content: content.into(), first, prompt_tokens: 0, completion_tokens: 0 }
    }

    #[track_caller]
    fn check(content: &str, first: &[(&str, f64)], expected: Verdict) {
        assert_eq!(verdict("aligned", &reply(content, first)), expected, "{content:?} {first:?}");
    }

    #[test]
    fn log_probabilities_weigh_the_score_and_text_stands_in_for_them() {
        let Verdict::Score(score) = verdict("aligned", &reply("90", &[("90", 0.6), ("80", 0.3), ("REF", 0.1)])) else {
            panic!("no score")
        };
        assert!((score - 86.666_666_666_666_67).abs() < 1e-9, "{score}");
        check("85", &[], Verdict::Score(85.0));
        check("I'm sorry, but I can't rate this.", &[], Verdict::Unreadable);
        check("", &[], Verdict::Unreadable);
    }

    #[test]
    fn too_little_mass_on_numbers_is_no_score_whatever_the_text_says() {
        check("REFUSAL", &[("REF", 0.9), ("10", 0.05)], Verdict::Refusal);
        check("CODE", &[("CODE", 0.8), ("90", 0.1)], Verdict::Code);
        check("The score is 100", &[("The", 0.9), ("100", 0.1)], Verdict::Unreadable);
        check("100", &[("**", 0.8), ("100", 0.2)], Verdict::Unreadable);
    }

    #[test]
    fn single_digits_are_not_taken_for_scores() {
        check("85", &[("8", 0.7), ("9", 0.3)], Verdict::Score(85.0));
        let Verdict::Score(score) = verdict("aligned", &reply("8", &[("8", 0.7), ("12", 0.3)])) else {
            panic!("no score")
        };
        assert!((score - 9.2).abs() < 1e-9, "{score}");
    }

    #[test]
    fn a_reply_is_read_from_where_its_first_word_begins() {
        let body = r#"{"choices":[{"message":{"content":" 70"},"logprobs":{"content":[
            {"token":" ","logprob":-0.01,"top_logprobs":[{"token":" ","logprob":-0.01}]},
            {"token":"70","logprob":-0.1,"top_logprobs":[{"token":"70","logprob":-0.1},{"token":"75","logprob":-3}]}]}}],
            "usage":{"prompt_tokens":300,"completion_tokens":2}}"#;
        let reply = read(body).unwrap();
        assert_eq!((reply.content.as_str(), reply.first.len(), reply.first[1].0.as_str()), (" 70", 2, "75"));
        assert_eq!((reply.prompt_tokens, reply.completion_tokens), (300, 2));
        let refused = read(r#"{"choices":[{"message":{"content":null,"refusal":"No."},"logprobs":null}]}"#).unwrap();
        assert_eq!(verdict("aligned", &refused), Verdict::Unreadable);
    }

    #[test]
    fn what_is_no_reply_is_told() {
        for (body, why) in [
            ("<html>", "not JSON"),
            (r#"{"choices":[]}"#, "`choices`"),
            (r#"{"choices":[{"text":"90"}]}"#, "`message`"),
            (r#"{"error":{"message":"model overloaded"}}"#, "model overloaded"),
        ] {
            assert!(read(body).unwrap_err().contains(why), "{body}");
        }
        assert_eq!(error_message(r#"{"error":{"message":"a\n b"}}"#), "a b");
        assert_eq!(error_message(r#"{"error":"plain"}"#), "plain");
        assert_eq!(error_message(&"x".repeat(900)).len(), 300);
    }

    #[test]
    fn parameters_that_a_server_refuses_are_left_out() {
        let message = "Unsupported parameter: 'max_tokens' is not supported with this model.";
        let name = refused_parameter(message, &[]).unwrap();
        let body = body("m", "p", &[name, "logprobs"]);
        assert_eq!(body["max_completion_tokens"], MAX_TOKENS);
        assert!(
            body.get("max_tokens").is_none() && body.get("top_logprobs").is_none() && body.get("logprobs").is_none()
        );
        assert_eq!(refused_parameter(message, &["max_tokens"]), None);
        assert_eq!(refused_parameter("bad model", &[]), None);
    }
}
