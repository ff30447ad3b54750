//! Python's own syntax tree, as its `ast` module gives it: an arena of nodes that know their parents.
//!
//! Bandit and Radon are written against `ast`: their rules ask for a node's parent, for the order of its fields
//! and for positions as CPython counts them (1-based lines, 0-based columns in bytes of UTF-8). Ruff's parser
//! builds another shape (parts of strings kept apart, `elif` clauses flat, one node for a parameter and its
//! default), so the scanners read this tree, which [`super::lower`] makes from it.

/// A node's index in its [`Tree`].
pub(super) type Id = usize;

/// Value of a constant node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    None,
    Bool(bool),
    Str(String),
    Bytes(Vec<u8>),
    /// `None` where it does not fit.
    Int(Option<i64>),
    Float(f64),
    Complex(f64, f64),
    Ellipsis,
}

/// An arithmetic operator, as far as the rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BinOp {
    Add,
    Mod,
    Div,
    Other,
}

/// `arguments` of a function or lambda; ids of `arg` nodes and of defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    pub posonlyargs: Vec<Id>,
    pub args: Vec<Id>,
    pub vararg: Option<Id>,
    pub kwonlyargs: Vec<Id>,
    pub kw_defaults: Vec<Option<Id>>,
    pub kwarg: Option<Id>,
    /// Of the last positional parameters, positional-only ones included.
    pub defaults: Vec<Id>,
}

/// A node's class and the fields that some rule reads; the others are among its children only.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    Module {
        body: Vec<Id>,
    },
    FunctionDef {
        name: String,
        is_async: bool,
        args: Id,
        body: Vec<Id>,
    },
    ClassDef {
        name: String,
        body: Vec<Id>,
    },
    Assign {
        targets: Vec<Id>,
        value: Id,
    },
    AugAssign {
        target: Id,
        value: Id,
    },
    AnnAssign {
        target: Id,
        value: Option<Id>,
    },
    For {
        target: Id,
        iter: Id,
        body: Vec<Id>,
        orelse: Vec<Id>,
    },
    While {
        body: Vec<Id>,
        orelse: Vec<Id>,
    },
    If {
        body: Vec<Id>,
        orelse: Vec<Id>,
    },
    With {
        items: Vec<Id>,
        body: Vec<Id>,
    },
    Match {
        cases: Vec<Id>,
    },
    Try {
        star: bool,
        body: Vec<Id>,
        handlers: Vec<Id>,
        orelse: Vec<Id>,
        finalbody: Vec<Id>,
    },
    Assert,
    Import {
        names: Vec<Id>,
    },
    ImportFrom {
        module: Option<String>,
        names: Vec<Id>,
    },
    Expr {
        value: Id,
    },
    Pass,
    Continue,

    BoolOp {
        values: usize,
    },
    NamedExpr {
        target: Id,
        value: Id,
    },
    BinOp {
        left: Id,
        op: BinOp,
        right: Id,
    },
    Lambda,
    IfExp {
        body: Id,
        orelse: Id,
    },
    Dict {
        keys: Vec<Option<Id>>,
        values: Vec<Id>,
    },
    Set {
        elts: Vec<Id>,
    },
    Await {
        value: Id,
    },
    Compare {
        left: Id,
        comparators: Vec<Id>,
        operators: Vec<CompareOp>,
    },
    Call {
        func: Id,
        args: Vec<Id>,
        keywords: Vec<Id>,
    },
    FormattedValue {
        value: Id,
    },
    JoinedStr {
        values: Vec<Id>,
    },
    Constant(Constant),
    Attribute {
        value: Id,
        attr: String,
    },
    Subscript {
        value: Id,
    },
    Starred {
        value: Id,
    },
    Name {
        id: String,
        store: bool,
    },
    List {
        elts: Vec<Id>,
    },
    Tuple {
        elts: Vec<Id>,
    },

    Arguments(Arguments),
    Arg {
        arg: String,
        annotation: Option<Id>,
    },
    Keyword {
        arg: Option<String>,
        value: Id,
    },
    Alias {
        name: String,
        asname: Option<String>,
    },
    WithItem {
        context: Id,
        vars: Option<Id>,
    },
    ExceptHandler {
        type_: Option<Id>,
        name: Option<String>,
        body: Vec<Id>,
    },
    Comprehension {
        ifs: usize,
    },
    MatchCase {
        pattern: Id,
        body: Vec<Id>,
    },
    MatchAs {
        pattern: Option<Id>,
        name: Option<String>,
    },
    /// `MatchStar`, `MatchMapping`'s rest: a pattern that binds a name.
    MatchBinding {
        name: Option<String>,
    },
    /// Every class that no rule asks about.
    Other,
}

/// A comparison operator, as far as the rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CompareOp {
    In,
    NotIn,
    Other,
}

/// A node of the tree, in the terms of Python's `ast`.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub kind: Kind,
    pub parent: Option<Id>,
    /// In the order of `ast`'s fields.
    pub children: Vec<Id>,
    pub position: Option<Position>,
    pub is_statement: bool,
}

/// Where a node stands; classes such as `arguments` have no position of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
}

/// A module; the root is node 0.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

impl Tree {
    /// Id of the module node, the root.
    pub const ROOT: Id = 0;

    pub fn push(&mut self, node: Node) -> Id {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id]
    }

    pub fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id]
    }

    pub fn kind(&self, id: Id) -> &Kind {
        &self.nodes[id].kind
    }

    pub fn parent(&self, id: Id) -> Option<Id> {
        self.nodes[id].parent
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn children(&self, id: Id) -> &[Id] {
        &self.nodes[id].children
    }

    /// 1-based; 0 for a node without a position.
    pub fn line(&self, id: Id) -> u32 {
        self.nodes[id].position.map_or(0, |p| p.line)
    }

    /// The nodes that contain this one, from the nearest.
    pub fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        std::iter::successors(self.parent(id), |&id| self.parent(id))
    }

    /// This node and all below it, each before its children, in field order.
    pub fn walk(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        let mut stack = vec![id];
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(self.children(next).iter().rev());
            Some(next)
        })
    }

    /// The text of a string constant.
    pub fn str_value(&self, id: Id) -> Option<&str> {
        match self.kind(id) {
            Kind::Constant(Constant::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// Identifier of a `Name` node; `None` for other nodes.
    pub fn name(&self, id: Id) -> Option<&str> {
        match self.kind(id) {
            Kind::Name { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The last component of a name or attribute: `b` of `a.b`.
    pub fn last_name(&self, id: Id) -> Option<&str> {
        match self.kind(id) {
            Kind::Attribute { attr, .. } => Some(attr),
            _ => self.name(id),
        }
    }

    /// The last component of what a call calls.
    pub fn called_name(&self, id: Id) -> Option<&str> {
        match self.kind(id) {
            Kind::Call { func, .. } => self.last_name(*func),
            _ => None,
        }
    }

    /// The statement that opens a function, method or class body with its documentation, if it is a docstring.
    pub fn docstring(&self, body: &[Id]) -> Option<&str> {
        match self.kind(*body.first()?) {
            Kind::Expr { value } => self.str_value(*value),
            _ => None,
        }
    }
}
