//! Walks the syntax tree of one function and notes what it uses.

use std::collections::BTreeSet;

use clang::{Entity, EntityKind, TypeKind};

use super::Call;
use super::names::{Wanted, member_name};
use crate::change::ChangedRecord;
use crate::confree::found::Place;
use crate::confree::table::{Finder, Use, UseKind};

/// How many lines a statement's keyword may stand before the expression that is
/// counted from it.
const KEYWORD_DISTANCE: u32 = 3;

/// What was seen in one function.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) uses: Vec<(Place, Vec<String>, Use)>,
    pub(super) calls: BTreeSet<Call>,
    /// Calls through pointers: place, enclosing calls, type called through.
    pub(super) indirect: Vec<(Place, Vec<String>, String)>,
}

/// A use without a place.
pub(super) fn bare(kind: UseKind, name: String, file: &str) -> Use {
    Use {
        kind,
        name,
        member: None,
        file: file.to_owned(),
        line: 0,
        by_member: true,
        finder: Finder::Syntax,
    }
}

/// The line that a person is told.
pub(super) fn line_of(place: &Place) -> u32 {
    match place {
        Place::Lines { first, .. } => *first,
        _ => 0,
    }
}

pub(super) struct Walk<'a, 'w> {
    wanted: &'a Wanted<'w>,
    source: &'a str,
    /// File that holds the function.
    file: &'a str,
    function: &'a str,
    file_of: &'a dyn Fn(&str) -> String,
    /// Lines of the statement or expression being walked, innermost last; zeros
    /// where nothing narrower than the function is known.
    ranges: Vec<(u32, u32)>,
    arguments_of: Vec<String>,
    expressions: usize,
    walked: Walked,
}

impl<'a, 'w> Walk<'a, 'w> {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn new(
        wanted: &'a Wanted<'w>,
        source: &'a str,
        file: &'a str,
        function: &'a str,
        file_of: &'a dyn Fn(&str) -> String,
        first: u32,
        last: u32,
    ) -> Self {
        Self {
            wanted,
            source,
            file,
            function,
            file_of,
            ranges: vec![(first, last)],
            arguments_of: Vec::new(),
            expressions: 0,
            walked: Walked::default(),
        }
    }

    pub(super) fn function(&mut self, entity: Entity<'_>) {
        for child in entity.get_children() {
            self.walk(child, false, false);
        }
    }

    pub(super) fn finish(self) -> Walked {
        self.walked
    }

    fn place(&self) -> Place {
        match self.ranges.last() {
            Some((first, last)) if *first > 0 => Place::Lines {
                file: self.file.to_owned(),
                first: *first,
                last: *last,
            },
            _ => Place::Whole,
        }
    }

    fn note(&mut self, place: Place, what: Use) {
        let what = Use {
            line: line_of(&place),
            ..what
        };
        self.walked
            .uses
            .push((place, self.arguments_of.clone(), what));
    }

    fn add(&mut self, kind: UseKind, records: Vec<&ChangedRecord>) {
        for record in records {
            let what = Use {
                by_member: record.resized,
                ..bare(kind, record.name.clone(), self.file)
            };
            let place = self.place();
            self.note(place, what);
        }
    }

    /// A use that holds for the whole function.
    fn add_whole(&mut self, kind: UseKind, records: Vec<&ChangedRecord>) {
        for record in records {
            let what = bare(kind, record.name.clone(), self.file);
            self.note(Place::Whole, what);
        }
    }

    fn records(&self, entity: Entity<'_>) -> Vec<&'w ChangedRecord> {
        match entity.get_type() {
            Some(kind) => self.wanted.records(kind, self.file_of),
            None => Vec::new(),
        }
    }

    fn pointees(&self, entity: Entity<'_>) -> Vec<&'w ChangedRecord> {
        match entity.get_type() {
            Some(kind) => self.wanted.pointees(kind, self.file_of),
            None => Vec::new(),
        }
    }

    /// Records that a member access starts from: by value or by pointer.
    fn base_records(&self, entity: Entity<'_>) -> Vec<&'w ChangedRecord> {
        let by_value = self.records(entity);
        if by_value.is_empty() {
            self.pointees(entity)
        } else {
            by_value
        }
    }

    /// A pointer into an instance that is kept: to a member, which matters to
    /// those that tell members apart if that member changed, or to an element.
    fn add_interior(&mut self, records: Vec<&ChangedRecord>, into: Entity<'_>) {
        let field = into
            .get_reference()
            .filter(|field| field.get_kind() == EntityKind::FieldDecl)
            .map(member_name);
        for record in records {
            let by_member = match &field {
                Some(name) => record.changes_member(name),
                None => record.resized,
            };
            let what = Use {
                member: field.clone().filter(|name| !name.is_empty()),
                by_member,
                ..bare(UseKind::Interior, record.name.clone(), self.file)
            };
            self.note(Place::Whole, what);
        }
    }

    fn walk(&mut self, entity: Entity<'_>, in_expression: bool, is_base: bool) {
        let kind = entity.get_kind();
        let is_expression = entity.is_expression();
        let ranges = self.ranges.len();
        if is_expression {
            self.expressions += 1;
            if !in_expression {
                self.push_expression(entity);
            }
        }
        self.push_statement(entity, kind);
        if matches!(kind, EntityKind::VarDecl | EntityKind::ParmDecl) {
            self.add(UseKind::Declaration, self.records(entity));
        }
        if is_expression {
            let kind = if is_base {
                UseKind::Member
            } else {
                UseKind::Value
            };
            self.add(kind, self.records(entity));
        }
        self.look_at(entity, kind);
        let called = (kind == EntityKind::CallExpr).then(|| self.call(entity));
        let entered = called.is_some();
        self.arguments_of.extend(called);
        if kind != EntityKind::UnaryExpr {
            let mut base = kind == EntityKind::MemberRefExpr;
            for child in entity.get_children() {
                let statement = matches!(
                    child.get_kind(),
                    EntityKind::CompoundStmt | EntityKind::StmtExpr
                );
                let inside = (in_expression || is_expression) && !statement;
                self.walk(child, inside, std::mem::take(&mut base));
            }
        }
        if entered {
            self.arguments_of.pop();
        }
        self.ranges.truncate(ranges);
    }

    fn push_expression(&mut self, entity: Entity<'_>) {
        let (mut first, last) = extent(entity);
        if let Some((outer, _)) = self.ranges.last()
            && *outer != 0
            && *outer <= first
            && first - *outer <= KEYWORD_DISTANCE
        {
            first = *outer;
        }
        self.ranges.push((first, last));
    }

    fn push_statement(&mut self, entity: Entity<'_>, kind: EntityKind) {
        match kind {
            EntityKind::VarDecl
            | EntityKind::DeclStmt
            | EntityKind::AsmStmt
            | EntityKind::MsAsmStmt => self.ranges.push(extent(entity)),
            EntityKind::IfStmt
            | EntityKind::WhileStmt
            | EntityKind::SwitchStmt
            | EntityKind::ReturnStmt
            | EntityKind::ForStmt
            | EntityKind::CaseStmt => {
                let (first, _) = extent(entity);
                self.ranges.push((first, first));
            }
            EntityKind::CompoundStmt | EntityKind::DoStmt => self.ranges.push((0, 0)),
            _ => {}
        }
    }

    fn look_at(&mut self, entity: Entity<'_>, kind: EntityKind) {
        match kind {
            EntityKind::MemberRefExpr => self.member(entity),
            EntityKind::MemberRef => self.member_of_designator(entity),
            EntityKind::UnaryExpr => self.size(entity),
            EntityKind::ArraySubscriptExpr => {
                for child in entity.get_children() {
                    self.add(UseKind::Arithmetic, self.pointees(child));
                }
            }
            EntityKind::BinaryOperator | EntityKind::CompoundAssignOperator => {
                self.binary(entity, kind);
            }
            EntityKind::UnaryOperator => self.unary(entity),
            EntityKind::DeclRefExpr => self.named(entity),
            _ => {}
        }
    }

    fn member(&mut self, entity: Entity<'_>) {
        let base = entity.get_children().first().copied();
        if let Some(field) = entity.get_reference()
            && field.get_kind() == EntityKind::FieldDecl
        {
            self.field(UseKind::Member, field);
        }
        if let Some(base) = base {
            let records = self.base_records(base);
            let is_array = entity
                .get_type()
                .is_some_and(|kind| kind.get_canonical_type().get_element_type().is_some());
            if is_array && self.arguments_of.is_empty() {
                self.add_interior(records, entity);
            } else {
                for record in records {
                    let what = Use {
                        by_member: false,
                        ..bare(UseKind::Member, record.name.clone(), self.file)
                    };
                    let place = self.place();
                    self.note(place, what);
                }
            }
        }
    }

    fn member_of_designator(&mut self, entity: Entity<'_>) {
        if let Some(field) = entity.get_reference()
            && field.get_kind() == EntityKind::FieldDecl
        {
            self.field(UseKind::Size, field);
        }
    }

    fn field(&mut self, kind: UseKind, field: Entity<'_>) {
        let parent = field.get_semantic_parent().and_then(|p| p.get_type());
        let Some(parent) = parent else { return };
        let name = member_name(field);
        for record in self.wanted.records(parent, self.file_of) {
            let what = Use {
                member: (!name.is_empty()).then(|| name.clone()),
                by_member: record.members.contains(&name),
                ..bare(kind, record.name.clone(), self.file)
            };
            let place = self.place();
            self.note(place, what);
        }
    }

    /// `sizeof`: of a type that is named, or of an expression.
    fn size(&mut self, entity: Entity<'_>) {
        let mut open = vec![entity];
        while let Some(at) = open.pop() {
            if at.get_kind() == EntityKind::TypeRef
                && let Some(kind) = at.get_reference().and_then(|named| named.get_type())
            {
                self.add(UseKind::Size, self.wanted.records(kind, self.file_of));
                self.add(UseKind::Size, self.wanted.pointees(kind, self.file_of));
            }
            if at.is_expression() && at != entity {
                self.add(UseKind::Size, self.records(at));
            }
            open.extend(at.get_children());
        }
    }

    /// Sums and differences of pointers. The operator itself is not told by
    /// older libraries; the types are.
    fn binary(&mut self, entity: Entity<'_>, kind: EntityKind) {
        let operands: Vec<_> = entity
            .get_children()
            .into_iter()
            .map(|child| self.pointees(child))
            .filter(|records| !records.is_empty())
            .collect();
        let result = entity
            .get_type()
            .map(|kind| kind.get_canonical_type().get_kind());
        let is_sum = result == Some(TypeKind::Pointer) && operands.len() == 1;
        let is_difference = result == Some(TypeKind::Long);
        if is_sum || is_difference || kind == EntityKind::CompoundAssignOperator {
            for records in operands {
                self.add(UseKind::Arithmetic, records);
            }
        }
    }

    /// `++`, `--` and `&`.
    fn unary(&mut self, entity: Entity<'_>) {
        let is_pointer = entity
            .get_type()
            .is_some_and(|kind| kind.get_canonical_type().get_kind() == TypeKind::Pointer);
        let Some(operand) = entity.get_children().first().copied() else {
            return;
        };
        if !is_pointer {
            return;
        }
        if self.arguments_of.is_empty() {
            self.interior(operand);
        }
        self.add(UseKind::Arithmetic, self.pointees(operand));
        // The address of a local instance: it stays in the frame's layout.
        if let Some(variable) = operand.get_reference()
            && variable.get_kind() == EntityKind::VarDecl
            && variable
                .get_semantic_parent()
                .is_some_and(|parent| parent.get_kind() == EntityKind::FunctionDecl)
        {
            self.add_whole(UseKind::Declaration, self.records(operand));
        }
    }

    /// The address of a member: a pointer into an instance that may be kept.
    fn interior(&mut self, operand: Entity<'_>) {
        let mut at = operand;
        loop {
            let first = at.get_children().first().copied();
            match at.get_kind() {
                EntityKind::ParenExpr | EntityKind::UnexposedExpr => {}
                EntityKind::MemberRefExpr | EntityKind::ArraySubscriptExpr => {
                    if let Some(base) = first {
                        self.add_interior(self.base_records(base), at);
                    }
                }
                _ => return,
            }
            match first {
                Some(next) => at = next,
                None => return,
            }
        }
    }

    fn named(&mut self, entity: Entity<'_>) {
        let Some(declaration) = entity.get_reference() else {
            return;
        };
        let name = declaration.get_name().unwrap_or_default();
        let what = match declaration.get_kind() {
            EntityKind::FunctionDecl => self
                .wanted
                .function(&declaration, &name, self.source)
                .then_some((UseKind::Function, name)),
            EntityKind::VarDecl => self
                .wanted
                .global(&declaration, self.function, self.source)
                .map(|name| (UseKind::Global, name)),
            EntityKind::EnumConstantDecl => self
                .wanted
                .enumerator(&name)
                .map(|_| (UseKind::Enumerator, name)),
            _ => None,
        };
        if let Some((kind, name)) = what {
            let what = bare(kind, name, self.file);
            let place = self.place();
            self.note(place, what);
        }
    }

    /// Notes a call, and says whom it calls.
    fn call(&mut self, entity: Entity<'_>) -> String {
        let direct = entity
            .get_reference()
            .filter(|callee| callee.get_kind() == EntityKind::FunctionDecl)
            .and_then(|callee| callee.get_name());
        if direct.is_none()
            && let Some(kind) = entity.get_children().first().and_then(Entity::get_type)
        {
            let kind = kind.get_canonical_type();
            let called = kind.get_pointee_type().unwrap_or(kind).get_canonical_type();
            let place = self.place();
            self.walked.indirect.push((
                place,
                self.arguments_of.clone(),
                called.get_display_name(),
            ));
        }
        let callee = direct.unwrap_or_else(|| "*".to_owned());
        let (first, last) = self.ranges.last().copied().unwrap_or((0, 0));
        self.walked.calls.insert(Call {
            first,
            last,
            callee: callee.clone(),
            serial: self.expressions,
        });
        callee
    }
}

fn extent(entity: Entity<'_>) -> (u32, u32) {
    match entity.get_range() {
        Some(range) => {
            let (_, first, _) = range.get_start().get_presumed_location();
            let (_, last, _) = range.get_end().get_presumed_location();
            (first, last)
        }
        None => (0, 0),
    }
}
