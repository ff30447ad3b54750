//! What a rule sees of a node: Bandit's own view of call arguments, in which a name and a string look alike.

use std::collections::HashSet;

use crate::scan::tree::{Constant, Id, Kind, Tree};

/// A value as Bandit's literal conversion gives it. `True`, `False` and `None` become their words, a bare name
/// becomes its text, `a.b` becomes `b`, and everything that is no literal becomes nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal<'t> {
    /// Python's `None`, as Bandit's helpers return it for what is not a literal.
    Nothing,
    Text(&'t str),
    Int(Option<i64>),
    Float(f64),
    List(Vec<Literal<'t>>),
    /// Bytes, complex numbers, tuples, sets, dictionaries, `...`.
    Other {
        truthy: bool,
    },
}

impl<'t> Literal<'t> {
    /// The text of a string or name.
    pub fn text(&self) -> Option<&'t str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Truth value as Python's `bool()` gives it.
    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::Text(text) => !text.is_empty(),
            Self::Int(int) => *int != Some(0),
            Self::Float(float) => *float != 0.0,
            Self::List(items) => !items.is_empty(),
            Self::Other { truthy } => *truthy,
        }
    }

    /// As Python would print it, near enough for a message.
    pub fn display(&self) -> String {
        match self {
            Self::Nothing => "None".to_string(),
            Self::Text(text) => (*text).to_string(),
            Self::Int(Some(int)) => int.to_string(),
            Self::Int(None) => "a large integer".to_string(),
            Self::Float(float) => float.to_string(),
            Self::List(items) => items.iter().map(Literal::display).collect::<Vec<_>>().join(", "),
            Self::Other { .. } => "...".to_string(),
        }
    }
}

/// One node on the walk, with the imports seen so far.
pub(super) struct Context<'t> {
    pub tree: &'t Tree,
    pub node: Id,
    imports: &'t HashSet<String>,
    /// Qualified name of the called function; empty for other nodes.
    pub qualname: &'t str,
    /// Last component of `qualname`.
    pub name: &'t str,
    pub args: &'t [Id],
    keywords: &'t [Id],
}

impl<'t> Context<'t> {
    pub fn new(tree: &'t Tree, node: Id, imports: &'t HashSet<String>, qualname: &'t str) -> Self {
        let (args, keywords): (&[Id], &[Id]) = match tree.kind(node) {
            Kind::Call { args, keywords, .. } => (args, keywords),
            _ => (&[], &[]),
        };
        let name = qualname.rsplit('.').next().unwrap_or(qualname);
        Self { tree, node, imports, qualname, name, args, keywords }
    }

    /// Whether exactly this was imported: `import yaml` is, `from yaml import load` is not.
    pub fn imported(&self, module: &str) -> bool {
        self.imports.contains(module)
    }

    /// Whether some import contains this text.
    pub fn imported_like(&self, module: &str) -> bool {
        self.imports.iter().any(|import| import.contains(module))
    }

    /// Whether one component of the qualified name is this word.
    pub fn qualname_has(&self, word: &str) -> bool {
        self.qualname.split('.').any(|part| part == word)
    }

    /// Name and value of each keyword argument.
    pub fn keywords(&self) -> impl Iterator<Item = (Option<&'t str>, Id)> + '_ {
        self.keywords.iter().filter_map(|&id| match self.tree.kind(id) {
            Kind::Keyword { arg, value } => Some((arg.as_deref(), *value)),
            _ => None,
        })
    }

    /// The last keyword argument of this name.
    pub fn keyword(&self, name: &str) -> Option<Literal<'t>> {
        self.keywords().filter(|(arg, _)| *arg == Some(name)).last().map(|(_, value)| self.value(value))
    }

    /// The same, where a value that is no literal counts as missing.
    pub fn keyword_value(&self, name: &str) -> Literal<'t> {
        self.keyword(name).unwrap_or(Literal::Nothing)
    }

    /// Whether a keyword argument is one of these words.
    pub fn keyword_is(&self, name: &str, words: &[&str]) -> bool {
        self.keyword_value(name).text().is_some_and(|text| words.contains(&text))
    }

    /// The line of a keyword argument's value.
    pub fn keyword_line(&self, name: &str) -> Option<u32> {
        self.keywords().find(|(arg, _)| *arg == Some(name)).map(|(_, value)| self.tree.line(value))
    }

    /// Literal value of a positional argument, counted from 0.
    pub fn arg(&self, index: usize) -> Literal<'t> {
        self.args.get(index).map_or(Literal::Nothing, |&id| self.value(id))
    }

    fn value(&self, id: Id) -> Literal<'t> {
        match self.tree.kind(id) {
            Kind::Attribute { attr, .. } => Literal::Text(attr),
            _ => self.literal(id),
        }
    }

    fn literal(&self, id: Id) -> Literal<'t> {
        match self.tree.kind(id) {
            Kind::Constant(constant) => match constant {
                Constant::None => Literal::Text("None"),
                Constant::Bool(true) => Literal::Text("True"),
                Constant::Bool(false) => Literal::Text("False"),
                Constant::Str(text) => Literal::Text(text),
                Constant::Int(int) => Literal::Int(*int),
                Constant::Float(float) => Literal::Float(*float),
                Constant::Complex(re, im) => Literal::Other { truthy: *re != 0.0 || *im != 0.0 },
                Constant::Bytes(bytes) => Literal::Other { truthy: !bytes.is_empty() },
                Constant::Ellipsis => Literal::Other { truthy: true },
            },
            Kind::Name { id, .. } => Literal::Text(id),
            Kind::List { elts } => Literal::List(elts.iter().map(|&e| self.literal(e)).collect()),
            Kind::Tuple { elts } | Kind::Set { elts } => Literal::Other { truthy: !elts.is_empty() },
            Kind::Dict { keys, .. } => Literal::Other { truthy: !keys.is_empty() },
            _ => Literal::Nothing,
        }
    }
}
