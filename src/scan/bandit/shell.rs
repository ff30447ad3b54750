//! Processes and shells.

use super::context::{Context, Literal};
use super::{Issue, On, Rule};
use crate::record::Level::{High, Low, Medium};
use crate::scan::tree::{Constant, Kind};

pub(super) const RULES: &[Rule] = &[
    Rule { id: "B602", name: "subprocess_popen_with_shell_equals_true", on: &[On::Call], check: subprocess_shell },
    Rule { id: "B603", name: "subprocess_without_shell_equals_true", on: &[On::Call], check: subprocess_no_shell },
    Rule { id: "B604", name: "any_other_function_with_shell_equals_true", on: &[On::Call], check: other_shell },
    Rule { id: "B605", name: "start_process_with_a_shell", on: &[On::Call], check: start_with_shell },
    Rule { id: "B606", name: "start_process_with_no_shell", on: &[On::Call], check: start_without_shell },
    Rule { id: "B607", name: "start_process_with_partial_path", on: &[On::Call], check: partial_path },
    Rule { id: "B609", name: "linux_commands_wildcard_injection", on: &[On::Call], check: wildcard },
];

const SUBPROCESS: [&str; 5] =
    ["subprocess.Popen", "subprocess.call", "subprocess.check_call", "subprocess.check_output", "subprocess.run"];

const SHELL: [&str; 14] = [
    "os.system",
    "os.popen",
    "os.popen2",
    "os.popen3",
    "os.popen4",
    "popen2.popen2",
    "popen2.popen3",
    "popen2.popen4",
    "popen2.Popen3",
    "popen2.Popen4",
    "commands.getoutput",
    "commands.getstatusoutput",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
];

const NO_SHELL: [&str; 17] = [
    "os.execl",
    "os.execle",
    "os.execlp",
    "os.execlpe",
    "os.execv",
    "os.execve",
    "os.execvp",
    "os.execvpe",
    "os.spawnl",
    "os.spawnle",
    "os.spawnlp",
    "os.spawnlpe",
    "os.spawnv",
    "os.spawnve",
    "os.spawnvp",
    "os.spawnvpe",
    "os.startfile",
];

/// Programs that take file names as options when a wildcard expands to them.
const WILDCARD_PROGRAMS: [&str; 4] = ["chown", "chmod", "tar", "rsync"];

fn is_subprocess(context: &Context) -> bool {
    SUBPROCESS.contains(&context.qualname)
}

fn is_shell(context: &Context) -> bool {
    SHELL.contains(&context.qualname)
}

/// Whether `shell=` is given and true as far as can be seen; anything that is no literal counts as true.
fn has_shell(context: &Context) -> bool {
    let Some((_, value)) = context.keywords().filter(|(arg, _)| *arg == Some("shell")).last() else { return false };
    match context.tree.kind(value) {
        Kind::Constant(constant) => match constant {
            Constant::None => false,
            Constant::Bool(value) => *value,
            Constant::Str(text) => !text.is_empty(),
            Constant::Bytes(bytes) => !bytes.is_empty(),
            Constant::Int(int) => *int != Some(0),
            Constant::Float(float) => *float != 0.0,
            Constant::Complex(re, im) => *re != 0.0 || *im != 0.0,
            Constant::Ellipsis => true,
        },
        Kind::List { elts } => !elts.is_empty(),
        Kind::Dict { keys, .. } => !keys.is_empty(),
        _ => true,
    }
}

fn command_is_literal(context: &Context) -> bool {
    context.args.first().is_some_and(|&command| context.tree.str_value(command).is_some())
}

fn subprocess_shell(context: &Context) -> Option<Issue> {
    if !is_subprocess(context) || !has_shell(context) || context.args.is_empty() {
        return None;
    }
    let issue = if command_is_literal(context) {
        Issue::new(Low, High, 78, "subprocess with shell=True runs a literal command; it may be changed later.")
    } else {
        Issue::new(High, High, 78, "subprocess with shell=True runs a command that is put together.")
    };
    Some(issue.at(context.keyword_line("shell")))
}

fn subprocess_no_shell(context: &Context) -> Option<Issue> {
    (is_subprocess(context) && !has_shell(context)).then(|| {
        Issue::new(Low, High, 78, "subprocess without a shell: check what it executes.")
            .at(context.keyword_line("shell"))
    })
}

fn other_shell(context: &Context) -> Option<Issue> {
    (!is_subprocess(context) && has_shell(context))
        .then(|| Issue::new(Medium, Low, 78, "A function is called with shell=True.").at(context.keyword_line("shell")))
}

fn start_with_shell(context: &Context) -> Option<Issue> {
    if !is_shell(context) || context.args.is_empty() {
        return None;
    }
    Some(if command_is_literal(context) {
        Issue::new(Low, High, 78, "A shell runs a literal command; it may be changed later.")
    } else {
        Issue::new(High, High, 78, "A shell runs a command that is put together.")
    })
}

fn start_without_shell(context: &Context) -> Option<Issue> {
    NO_SHELL.contains(&context.qualname).then(|| Issue::new(Low, Medium, 78, "A process is started without a shell."))
}

fn partial_path(context: &Context) -> Option<Issue> {
    let starts = is_subprocess(context) || is_shell(context) || NO_SHELL.contains(&context.qualname);
    let mut command = *context.args.first().filter(|_| starts)?;
    if let Kind::List { elts } = context.tree.kind(command) {
        command = *elts.first().unwrap_or(&command);
    }
    let text = context.tree.str_value(command)?;
    (!is_full_path(text)).then(|| Issue::new(Low, High, 78, "A process is started by a partial path."))
}

/// Begins like a path or with a drive letter.
fn is_full_path(text: &str) -> bool {
    let mut chars = text.chars();
    match chars.next() {
        Some('\\' | '/' | '.') => true,
        Some(letter) => letter.is_ascii_alphabetic() && chars.next() == Some(':'),
        None => false,
    }
}

fn wildcard(context: &Context) -> Option<Issue> {
    let by_shell = is_shell(context) || is_subprocess(context) && context.keyword_is("shell", &["True"]);
    if !by_shell {
        return None;
    }
    let command = match context.arg(0) {
        Literal::Text(text) => text.to_string(),
        Literal::List(items) => items.iter().map(|item| format!(" {}", item.display())).collect(),
        _ => return None,
    };
    let risky = command.contains('*') && WILDCARD_PROGRAMS.iter().any(|program| command.contains(program));
    risky.then(|| {
        Issue::new(High, Medium, 155, format!("{} runs a command with a wildcard.", context.qualname))
            .at(context.keyword_line("shell"))
    })
}
