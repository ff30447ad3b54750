//! F-strings: literal pieces joined with their neighbours, values in braces, format specifications.

use ruff_python_ast as ast;
use ruff_text_size::TextRange;

use super::Lower;
use crate::scan::FStringPositions;
use crate::scan::tree::{Constant, Id, Kind};

/// A literal piece of an f-string on its way into one constant with its neighbours.
struct Piece {
    text: String,
    range: TextRange,
}

impl Lower<'_> {
    pub(super) fn f_string(&mut self, f: &ast::ExprFString) -> Id {
        let id = self.open(Some(f.range));
        let mut values = Vec::new();
        let mut piece: Option<Piece> = None;
        let outer = self.whole;
        self.whole = (self.positions == FStringPositions::Whole).then_some(f.range);
        for part in &f.value {
            match part {
                ast::FStringPart::Literal(literal) => join(&mut piece, &literal.value, literal.range),
                ast::FStringPart::FString(part) => self.f_string_elements(&part.elements, &mut piece, &mut values),
            }
        }
        self.flush(&mut piece, &mut values);
        self.whole = outer;
        self.close(id, Kind::JoinedStr { values: values.clone() }, values)
    }

    fn f_string_elements(
        &mut self,
        elements: &ast::InterpolatedStringElements,
        piece: &mut Option<Piece>,
        values: &mut Vec<Id>,
    ) {
        for element in elements {
            match element {
                ast::InterpolatedStringElement::Literal(literal) => join(piece, &literal.value, literal.range),
                ast::InterpolatedStringElement::Interpolation(interpolation) => {
                    if let Some(debug) = &interpolation.debug_text {
                        // `{x=}` writes its own source before the value.
                        let text = [debug.leading(), debug.expression(), debug.trailing()].concat();
                        join(piece, &text, interpolation.range);
                    }
                    self.flush(piece, values);
                    values.push(self.formatted_value(interpolation));
                }
            }
        }
    }

    pub(super) fn elements(&mut self, elements: &ast::InterpolatedStringElements) -> Vec<Id> {
        let (mut piece, mut values) = (None, Vec::new());
        self.f_string_elements(elements, &mut piece, &mut values);
        self.flush(&mut piece, &mut values);
        values
    }

    fn formatted_value(&mut self, interpolation: &ast::InterpolatedElement) -> Id {
        let id = self.open(Some(interpolation.range));
        let value = self.expr(&interpolation.expression);
        let mut children = vec![value];
        if let Some(spec) = &interpolation.format_spec {
            let spec_id = self.open(Some(spec.range));
            let values = self.elements(&spec.elements);
            children.push(self.close(spec_id, Kind::JoinedStr { values: values.clone() }, values));
        }
        self.close(id, Kind::FormattedValue { value }, children)
    }

    /// Ends a run of literal pieces; an empty one leaves no constant behind.
    fn flush(&mut self, piece: &mut Option<Piece>, values: &mut Vec<Id>) {
        if let Some(Piece { text, range }) = piece.take().filter(|p| !p.text.is_empty()) {
            values.push(self.leaf(Some(self.whole.unwrap_or(range)), Kind::Constant(Constant::Str(text))));
        }
    }
}

fn join(piece: &mut Option<Piece>, text: &str, range: TextRange) {
    match piece {
        Some(piece) => {
            piece.text.push_str(text);
            piece.range = piece.range.cover(range);
        }
        None => *piece = Some(Piece { text: text.to_string(), range }),
    }
}
