//! The text of one function in a C source file, so that two versions of it can
//! be compared whatever their comments and white space.
//!
//! The file is cut into tokens but neither parsed nor preprocessed: the text of
//! a function is what a programmer would call so, all branches of its
//! conditionals included. Where branches differ in their braces, the first is
//! followed, and if that leads nowhere, the last.

/// Tokens of one C source file.
#[derive(Debug, Default)]
pub(super) struct SourceText {
    tokens: Vec<Token>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Identifiers, keywords and numbers.
    Word,
    /// Strings and character constants.
    Literal,
    /// One character of punctuation.
    Mark(u8),
    Directive(Directive),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    /// `#if`, `#ifdef`, `#ifndef`; `dead` for `#if 0`.
    If {
        dead: bool,
    },
    Else,
    End,
    Other,
}

#[derive(Debug)]
struct Token {
    kind: Kind,
    text: Vec<u8>,
    line: u64,
    /// In bytes, from 1.
    column: u64,
    /// Whether white space or a comment comes before it.
    spaced: bool,
}

/// Which branch of a conditional says how many braces are open behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    First,
    Last,
}

impl SourceText {
    /// Cuts a file into tokens. Any bytes will do.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut lexer = Lexer {
            bytes,
            at: 0,
            line: 1,
            line_start: 0,
        };
        let mut tokens = Vec::new();
        while let Some(token) = lexer.token(tokens.last()) {
            tokens.push(token);
        }
        Self { tokens }
    }

    /// The text of the function `name` whose name, or the macro that makes it,
    /// is at `line` and `column` (0 where unknown), from the beginning of the
    /// definition to its closing brace; for a function that a macro makes, the
    /// macro's invocation. Comments are left out, and white space where it
    /// separates nothing.
    pub(super) fn function(&self, name: &str, line: u64, column: u64) -> Option<Vec<u8>> {
        let start = self
            .tokens
            .iter()
            .position(|token| token.line == line && token.column >= column)?;
        if matches!(self.tokens[start].kind, Kind::Directive(_)) {
            return None;
        }
        let end = [Follow::First, Follow::Last]
            .into_iter()
            .find_map(|follow| self.end(start, name, follow))?;
        Some(spelling(&self.tokens[self.beginning(start)..=end]))
    }

    /// Where the definition begins whose name is at `start`: behind the last
    /// declaration, function, directive, or macro that stands for one of these.
    fn beginning(&self, start: usize) -> usize {
        let mut beginning = self.tokens[..start]
            .iter()
            .rposition(|token| {
                matches!(
                    token.kind,
                    Kind::Mark(b';' | b'}' | b'{') | Kind::Directive(_)
                )
            })
            .map_or(0, |place| place + 1);
        while let Some(behind) = self.invocation(beginning).filter(|end| *end <= start) {
            beginning = behind;
        }
        beginning
    }

    /// The token behind a macro's invocation at `place` that has its lines for
    /// itself; an attribute belongs to what follows it.
    fn invocation(&self, place: usize) -> Option<usize> {
        let (name, rest) = self.tokens.get(place..)?.split_first()?;
        if name.kind != Kind::Word
            || name.text.starts_with(b"__attribute")
            || rest.first()?.kind != Kind::Mark(b'(')
        {
            return None;
        }
        let mut open = 0_i32;
        let close = rest.iter().position(|token| {
            match token.kind {
                Kind::Mark(b'(') => open += 1,
                Kind::Mark(b')') => open -= 1,
                _ => {}
            }
            open == 0
        })?;
        (rest.get(close + 1)?.line > rest[close].line).then_some(place + close + 2)
    }

    /// The last token of the function that has its name at `start`.
    fn end(&self, start: usize, name: &str, follow: Follow) -> Option<usize> {
        let mut scan = Scan {
            braces: 0,
            parentheses: 0,
            open: Vec::new(),
        };
        // Behind the name of an ordinary definition come its parameters, and
        // perhaps their old-style declarations, each with a semicolon.
        let ordinary = self.is_named(start, name);
        let mut closed = false;
        let mut foreign = 0_u32;
        for (place, token) in self.tokens.iter().enumerate().skip(start) {
            if let Kind::Directive(directive) = token.kind {
                if foreign > 0 || scan.is_foreign(directive) {
                    // The function began in an earlier branch of a conditional:
                    // what stands here is another head for it.
                    match directive {
                        Directive::If { .. } => foreign += 1,
                        Directive::End => foreign -= 1,
                        Directive::Else => foreign = foreign.max(1),
                        Directive::Other => {}
                    }
                } else {
                    scan.conditional(directive, follow);
                    if closed && scan.open.is_empty() {
                        return Some(place);
                    }
                }
                continue;
            }
            let Kind::Mark(mark) = token.kind else {
                continue;
            };
            if foreign > 0 || closed {
                continue;
            }
            match mark {
                b'(' if scan.braces == 0 => scan.parentheses += 1,
                b')' if scan.braces == 0 => {
                    scan.parentheses -= 1;
                    if scan.parentheses == 0 && !ordinary && self.invocation_ends(place) {
                        return Some(place);
                    }
                }
                b'{' => scan.braces += 1,
                b'}' => {
                    scan.braces -= 1;
                    if scan.braces < 0 {
                        return None;
                    }
                    if scan.braces == 0 && scan.parentheses == 0 {
                        if scan.open.is_empty() {
                            return Some(place);
                        }
                        // The other branches end the function too.
                        closed = true;
                    }
                }
                b';' if scan.braces == 0 && scan.parentheses == 0 && !ordinary => {
                    return Some(place);
                }
                _ => {}
            }
        }
        None
    }

    /// Whether the token is the function's own name before its parameters.
    fn is_named(&self, place: usize, name: &str) -> bool {
        self.tokens[place].text == name.as_bytes()
            && self
                .tokens
                .get(place + 1)
                .is_some_and(|next| matches!(next.kind, Kind::Mark(b'(' | b')')))
    }

    /// Whether nothing that follows the closing parenthesis at `place` belongs to
    /// the macro's invocation.
    fn invocation_ends(&self, place: usize) -> bool {
        match self.tokens.get(place + 1) {
            None => true,
            Some(next) => match next.kind {
                Kind::Mark(b'{' | b'(' | b';') => false,
                _ => next.line > self.tokens[place].line,
            },
        }
    }
}

/// What is open at one place of a function.
struct Scan {
    braces: i32,
    /// Outside of braces.
    parentheses: i32,
    open: Vec<Conditional>,
}

struct Conditional {
    before: (i32, i32),
    /// Behind the first branch that is not dead.
    first: Option<(i32, i32)>,
    dead: bool,
    has_else: bool,
}

impl Scan {
    /// Whether the directive goes on with a conditional that was open before the
    /// function began.
    fn is_foreign(&self, directive: Directive) -> bool {
        directive == Directive::Else && self.open.is_empty()
    }

    fn conditional(&mut self, directive: Directive, follow: Follow) {
        let now = (self.braces, self.parentheses);
        let behind = match directive {
            Directive::If { dead } => {
                self.open.push(Conditional {
                    before: now,
                    first: None,
                    dead,
                    has_else: false,
                });
                return;
            }
            Directive::Other => return,
            Directive::Else => {
                let Some(conditional) = self.open.last_mut() else {
                    return;
                };
                if !std::mem::take(&mut conditional.dead) {
                    conditional.first.get_or_insert(now);
                }
                conditional.has_else = true;
                conditional.before
            }
            Directive::End => {
                let Some(conditional) = self.open.pop() else {
                    return;
                };
                match follow {
                    _ if conditional.dead => conditional.before,
                    Follow::First => conditional.first.unwrap_or(now),
                    // Without an `#else` the last branch is the empty one.
                    Follow::Last if conditional.has_else => now,
                    Follow::Last => conditional.before,
                }
            }
        };
        (self.braces, self.parentheses) = behind;
    }
}

/// Tokens as text, spaced only where two would run together.
fn spelling(tokens: &[Token]) -> Vec<u8> {
    let mut text: Vec<u8> = Vec::new();
    for token in tokens {
        if let Kind::Directive(_) = token.kind {
            text.push(b'\n');
            text.extend(&token.text);
            text.push(b'\n');
            continue;
        }
        let run_together = match (text.last(), token.text.first()) {
            (Some(last), Some(first)) => {
                (is_word(*last) && is_word(*first)) || (is_operator(*last) && is_operator(*first))
            }
            _ => false,
        };
        if token.spaced && run_together {
            text.push(b' ');
        }
        text.extend(&token.text);
    }
    text
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// Whether the character can be part of an operator of two.
fn is_operator(byte: u8) -> bool {
    b"+-*/%&|^!<>=#.:".contains(&byte)
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
    line_start: usize,
}

impl Lexer<'_> {
    /// The next byte, behind any line that a backslash continues.
    fn peek(&mut self) -> Option<u8> {
        while let [b'\\', rest @ ..] = &self.bytes[self.at..] {
            let width = match rest {
                [b'\n', ..] => 2,
                [b'\r', b'\n', ..] => 3,
                _ => break,
            };
            self.at += width;
            self.line += 1;
            self.line_start = self.at;
        }
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(byte)
    }

    /// Whether the next two bytes are these.
    fn sees(&mut self, pair: [u8; 2]) -> bool {
        self.peek() == Some(pair[0]) && self.bytes.get(self.at + 1) == Some(&pair[1])
    }

    /// Skips one comment, if one begins here.
    fn comment(&mut self) -> bool {
        if self.sees(*b"//") {
            while self.peek().is_some_and(|byte| byte != b'\n') {
                self.take();
            }
            return true;
        }
        if self.sees(*b"/*") {
            self.take();
            self.take();
            while self.peek().is_some() && !self.sees(*b"*/") {
                self.take();
            }
            self.take();
            self.take();
            return true;
        }
        false
    }

    fn token(&mut self, previous: Option<&Token>) -> Option<Token> {
        let mut spaced = false;
        let mut fresh_line = previous.is_none();
        loop {
            if self.comment() {
                spaced = true;
                continue;
            }
            match self.peek()? {
                b'\n' => fresh_line = true,
                byte if byte.is_ascii_whitespace() => {}
                _ => break,
            }
            spaced = true;
            self.take();
        }
        // A directive ends with its line.
        fresh_line |= previous.is_some_and(|token| matches!(token.kind, Kind::Directive(_)));
        let (line, column) = (self.line, (self.at - self.line_start) as u64 + 1);
        let (kind, text) = match self.peek()? {
            b'#' if fresh_line => self.directive(),
            quote @ (b'"' | b'\'') => (Kind::Literal, self.literal(quote)),
            byte if is_word(byte) => (Kind::Word, self.word()),
            mark => {
                self.take();
                (Kind::Mark(mark), vec![mark])
            }
        };
        Some(Token {
            kind,
            text,
            line,
            column,
            spaced,
        })
    }

    fn word(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        while let Some(byte) = self.peek().filter(|byte| is_word(*byte)) {
            self.take();
            text.push(byte);
        }
        text
    }

    /// A string or character constant. One that its line does not close ends
    /// there: it is an apostrophe in text that is never compiled.
    fn literal(&mut self, quote: u8) -> Vec<u8> {
        let mut text = Vec::new();
        text.extend(self.take());
        while let Some(byte) = self.peek().filter(|byte| *byte != b'\n') {
            self.take();
            text.push(byte);
            if byte == quote {
                break;
            }
            if byte == b'\\'
                && let Some(escaped) = self.peek().filter(|byte| *byte != b'\n')
            {
                self.take();
                text.push(escaped);
            }
        }
        text
    }

    /// A directive to the end of its line, without comments, white space as one
    /// blank.
    fn directive(&mut self) -> (Kind, Vec<u8>) {
        let mut text = Vec::new();
        loop {
            if self.comment() {
                text.push(b' ');
                continue;
            }
            match self.peek() {
                None | Some(b'\n') => break,
                Some(quote @ (b'"' | b'\'')) => text.extend(self.literal(quote)),
                Some(byte) if byte.is_ascii_whitespace() => {
                    self.take();
                    text.push(b' ');
                }
                Some(byte) => {
                    self.take();
                    text.push(byte);
                }
            }
        }
        let words: Vec<&[u8]> = text
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
            .collect();
        let text = words.join(&b' ');
        // `# if` and `#if` are one.
        let mut bare = text[1..].trim_ascii_start().splitn(2, |byte| *byte == b' ');
        let (keyword, rest) = (bare.next().unwrap_or(b""), bare.next().unwrap_or(b""));
        let directive = match keyword {
            b"if" => Directive::If { dead: rest == b"0" },
            b"ifdef" | b"ifndef" => Directive::If { dead: false },
            b"else" | b"elif" | b"elifdef" | b"elifndef" => Directive::Else,
            b"endif" => Directive::End,
            // `#if(X)` has no blank.
            other if other.starts_with(b"if(") || other.starts_with(b"if!") => {
                Directive::If { dead: false }
            }
            other if other.starts_with(b"elif(") || other.starts_with(b"elif!") => Directive::Else,
            _ => Directive::Other,
        };
        (Kind::Directive(directive), text)
    }
}

#[cfg(test)]
mod tests;
