//! The operators that are known when text is read and written: Scryer's at start, which are ISO's
//! and a few more. A program's own `op/3` is the engine's affair; canonical text needs none.

/// One operator: its priority, and the most that its arguments may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operator {
    pub(super) priority: u16,
    /// Of the left argument; zero for prefix operators, which have none.
    pub(super) left: u16,
    pub(super) right: u16,
}

/// The most that an argument of a compound or an item of a list may have.
pub(super) const ARGUMENT: u16 = 999;
/// The most that anything may have.
pub(super) const TERM: u16 = 1200;

pub(super) fn prefix(name: &str) -> Option<Operator> {
    let (priority, right) = match name {
        "-" | "+" | "\\" => (200, 200),
        "\\+" => (900, 900),
        ":-" | "?-" => (1200, 1199),
        _ => return None,
    };
    Some(Operator { priority, left: 0, right })
}

pub(super) fn infix(name: &str) -> Option<Operator> {
    let (priority, kind) = match name {
        "**" => (200, Kind::Xfx),
        "^" => (200, Kind::Xfy),
        "*" | "/" | "//" | "<<" | ">>" | "div" | "mod" | "rdiv" | "rem" => (400, Kind::Yfx),
        "+" | "-" | "/\\" | "\\/" => (500, Kind::Yfx),
        ":" => (600, Kind::Xfy),
        "=" | "\\=" | "==" | "\\==" | "=.." | "is" | "=:=" | "=\\=" | "<" | ">" | "=<" | ">="
        | "@<" | "@>" | "@=<" | "@>=" => (700, Kind::Xfx),
        "," => (1000, Kind::Xfy),
        "->" => (1050, Kind::Xfy),
        ";" => (1100, Kind::Xfy),
        ":-" | "-->" => (1200, Kind::Xfx),
        _ => return None,
    };
    let (left, right) = match kind {
        Kind::Xfx => (priority - 1, priority - 1),
        Kind::Xfy => (priority - 1, priority),
        Kind::Yfx => (priority, priority - 1),
    };
    Some(Operator { priority, left, right })
}

enum Kind {
    Xfx,
    Xfy,
    Yfx,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn associativity_bounds_the_side_that_may_repeat() {
        assert_eq!(infix("-"), Some(Operator { priority: 500, left: 500, right: 499 }));
        assert_eq!(infix("^"), Some(Operator { priority: 200, left: 199, right: 200 }));
        assert_eq!(infix("="), Some(Operator { priority: 700, left: 699, right: 699 }));
        assert_eq!(prefix("\\+"), Some(Operator { priority: 900, left: 0, right: 900 }));
        assert_eq!((infix("foo"), prefix("=")), (None, None));
    }
}
