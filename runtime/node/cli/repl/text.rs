//! Where a goal ends that comes line by line: at a full stop, which is a `.` that stands alone before
//! layout, `%` or the end (ISO/IEC 13211-1 6.4.8), and neither in quotes nor in a comment.

/// Text that comes line by line, and the place up to which it has been looked at: each character
/// once, however many lines a goal has.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    scanned: usize,
    state: State,
    /// Whether the character before is a symbol, so that a `.` behind it is a part of that.
    is_behind_symbol: bool,
    /// Whether it is a `0`, so that a quote behind it begins a character's code.
    is_behind_zero: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Plain,
    /// Behind a `.` that is the end if layout, or a comment, comes next.
    Stop,
    /// Behind a `/`.
    Slash,
    LineComment,
    /// And whether behind a `*`.
    Comment(bool),
    Quoted(char),
    Escaped(char),
    /// Behind `0'`.
    Code,
    /// Behind `0''`, where a second quote belongs to it.
    CodeQuote,
    CodeEscape,
}

impl Text {
    /// Adds a line.
    pub(super) fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Cuts the first goal off, without its full stop, if it is there whole.
    pub(super) fn next_goal(&mut self) -> Option<String> {
        let from = self.scanned;
        // Taken out, so that the state can change beside it.
        let mut text = std::mem::take(&mut self.text);
        let rest = text.get(from..).unwrap_or_default();
        let mut end = None;
        for (at, c) in rest.char_indices() {
            if self.state == State::Stop && (c.is_whitespace() || c == '%') {
                end = Some(from + at);
                break;
            }
            (self.state, self.is_behind_symbol, self.is_behind_zero) = self.after(c);
        }
        let Some(end) = end else {
            self.scanned = text.len();
            self.text = text;
            return None;
        };
        *self = Self { text: text.split_off(end), ..Self::default() };
        // The full stop.
        text.pop();
        Some(text)
    }

    /// The state behind a further character, and what it is to the next one.
    fn after(&self, c: char) -> (State, bool, bool) {
        let plain = |state| (state, is_symbol(c), c == '0');
        let inside = |state| (state, false, false);
        match self.state {
            State::Plain | State::Stop | State::Slash | State::CodeQuote => match c {
                '\'' if self.state == State::CodeQuote => inside(State::Plain),
                '*' if self.state == State::Slash => inside(State::Comment(false)),
                '%' => inside(State::LineComment),
                '/' if !self.is_behind_symbol => plain(State::Slash),
                '\'' if self.is_behind_zero => inside(State::Code),
                '\'' | '"' | '`' => inside(State::Quoted(c)),
                '.' if !self.is_behind_symbol => plain(State::Stop),
                _ => plain(State::Plain),
            },
            State::LineComment if c == '\n' => inside(State::Plain),
            State::LineComment => inside(State::LineComment),
            State::Comment(true) if c == '/' => inside(State::Plain),
            State::Comment(_) => inside(State::Comment(c == '*')),
            State::Quoted(quote) if c == quote => inside(State::Plain),
            State::Quoted(quote) if c == '\\' => inside(State::Escaped(quote)),
            State::Quoted(quote) | State::Escaped(quote) => inside(State::Quoted(quote)),
            State::Code if c == '\'' => inside(State::CodeQuote),
            State::Code if c == '\\' => inside(State::CodeEscape),
            State::Code | State::CodeEscape => inside(State::Plain),
        }
    }

    /// Forgets all of it.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes of what is left.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing is left but layout and comments.
    pub(super) fn is_blank(&self) -> bool {
        is_blank(&self.text)
    }
}

/// Whether there is nothing in a text but layout and comments.
pub(super) fn is_blank(text: &str) -> bool {
    text.lines().all(|line| {
        let line = line.trim_start();
        line.is_empty() || line.starts_with('%')
    })
}

fn is_symbol(c: char) -> bool {
    "+-*/\\^<>=~:.?@#&$".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Option<(String, String)> {
        let mut read = Text::default();
        text.split('\n').for_each(|line| read.push(line));
        read.next_goal().map(|goal| (goal, read.text.trim_end().to_owned()))
    }

    #[test]
    fn a_goal_ends_at_a_full_stop_and_nowhere_else() {
        for (text, goal, rest) in [
            ("true.", "true", ""),
            ("p(1.5, X). q.", "p(1.5, X)", " q."),
            ("X = 'a. b', true.\n", "X = 'a. b', true", ""),
            ("X = \"it\\\". \". r", "X = \"it\\\". \"", " r"),
            ("X = 'it''s. '.", "X = 'it''s. '", ""),
            ("X = 0'. .", "X = 0'. ", ""),
            ("X = 0'''.", "X = 0'''", ""),
            ("X = 0'\\n.", "X = 0'\\n", ""),
            ("p. % q.", "p", " % q."),
            ("p % q. \n.", "p % q. \n", ""),
            ("p /* q. */ .", "p /* q. */ ", ""),
            ("X =.. Y.", "X =.. Y", ""),
            ("X = é.%", "X = é", "%"),
            ("p(X) :-\n q(X).", "p(X) :-\n q(X)", ""),
        ] {
            assert_eq!(cut(text), Some((goal.to_owned(), rest.to_owned())), "{text}");
        }
        for text in ["", "true", "X = 'a.", "p /* q.", "p(X) :- q.r", "X = a=.", "% p.", "X = 0'."]
        {
            assert_eq!(cut(text), None, "{text}");
        }
    }

    #[test]
    fn a_goal_of_many_lines_is_looked_at_once() {
        let mut read = Text::default();
        for _ in 0..200_000 {
            read.push("a.b,");
            assert_eq!(read.next_goal(), None);
        }
        read.push("true.");
        assert_eq!(read.next_goal().map(|goal| goal.len()), Some(200_000 * 5 + 4));
    }

    #[test]
    fn layout_and_comments_are_no_goal() {
        assert!(is_blank("") && is_blank(" \n % no goal\n"));
        assert!(!is_blank("a % goal"));
    }
}
