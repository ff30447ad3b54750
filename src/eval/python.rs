//! Python's grammar, as far as telling code from something else needs it.

use ruff_python_ast::{Expr, Stmt};
use ruff_python_parser::parse_module;

/// Longer answers are not parsed: no token limit in use comes near it, and depth grows with length.
const LONGEST: usize = 100_000;
/// Deep chains (`1+1+…`) recurse in the parser and again when the tree is dropped.
const STACK: usize = 128 << 20;

/// Runs something that parses on a stack that deep chains do not overflow; memory is taken only as it is used.
pub(super) fn with_room<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let spawned = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        match spawned.map(|handle| handle.join()) {
            Ok(Ok(value)) => value,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            // No thread to be had: the machine is out of memory, which no caller can mend.
            Err(e) => panic!("a thread with a large stack cannot be started: {e}"),
        }
    })
}

/// Whether the text is a Python module.
pub(super) fn parses(source: &str) -> bool {
    source.len() <= LONGEST && parse_module(source).is_ok()
}

/// Whether it is a Python module that does something: some words parse as names and tuples, and are not code.
pub(super) fn is_code(source: &str) -> bool {
    source.len() <= LONGEST && parse_module(source).is_ok_and(|m| m.syntax().body.iter().any(does_something))
}

fn does_something(statement: &Stmt) -> bool {
    match statement {
        // `Sure`, `yes, of course` (no: `of course` does not parse), `"quoted"`, `42`, `a - b`, `not sure`.
        Stmt::Expr(e) => matches!(*e.value, Expr::Call(_) | Expr::Await(_) | Expr::Yield(_)),
        // `Note: this` is an annotation of a name.
        Stmt::AnnAssign(a) => a.value.is_some(),
        Stmt::Pass(_) | Stmt::Break(_) | Stmt::Continue(_) | Stmt::IpyEscapeCommand(_) => false,
        // `return that`, `raise concerns`, `del it`, `assert dominance`, `global warming`: English too.
        Stmt::Return(_) | Stmt::Raise(_) | Stmt::Delete(_) | Stmt::Assert(_) | Stmt::Global(_) | Stmt::Nonlocal(_) => {
            false
        }
        _ => true,
    }
}

/// Whether it is a module of statements that a function's body could be: `return f(x)`, `raise E`, `assert a == b`.
/// English can look the same, so that something else has to say that it is code.
pub(super) fn is_statement(source: &str) -> bool {
    let alone = |s: &Stmt| {
        matches!(
            s,
            Stmt::Return(_) | Stmt::Raise(_) | Stmt::Assert(_) | Stmt::Delete(_) | Stmt::Global(_) | Stmt::Nonlocal(_)
        )
    };
    let is_some = |s: &Stmt| alone(s) || does_something(s);
    source.len() <= LONGEST && parse_module(source).is_ok_and(|m| m.syntax().body.iter().any(is_some))
}
