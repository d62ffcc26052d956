//! Error terms, as ISO/IEC 13211-1, 7.12.2 has them: `error(Formal, Context)`.

use synod_core::term::{Term, TermError};
use synod_core::transaction::WriteError;

/// A term that is thrown in the program.
pub(super) type Ball = Term;

/// `error(Formal, synod)`.
pub(super) fn error(formal: Term) -> Ball {
    Term::structure("error", [formal, Term::atom("synod")])
}

/// `permission_error(Action, Type, Culprit)`.
pub(super) fn permission(action: &str, kind: &str, culprit: Term) -> Ball {
    let args = [Term::atom(action), Term::atom(kind), culprit];
    error(Term::structure("permission_error", args))
}

/// `existence_error(Type, Culprit)`.
pub(super) fn existence(kind: &str, culprit: Term) -> Ball {
    error(Term::structure("existence_error", [Term::atom(kind), culprit]))
}

/// `resource_error(What)`.
pub(super) fn resource(what: &str) -> Ball {
    error(Term::structure("resource_error", [Term::atom(what)]))
}

/// `representation_error(What)`.
pub(super) fn representation(what: &str) -> Ball {
    error(Term::structure("representation_error", [Term::atom(what)]))
}

/// `domain_error(Domain, Culprit)`.
pub(super) fn domain(domain: &str, culprit: Term) -> Ball {
    error(Term::structure("domain_error", [Term::atom(domain), culprit]))
}

/// `system_error(Text)`: what should not happen, said rather than hidden.
pub(super) fn system(text: impl Into<Box<str>>) -> Ball {
    error(Term::structure("system_error", [Term::string(text)]))
}

/// Of a term that cannot be encoded.
pub(super) fn unencodable(error: TermError) -> Ball {
    match error {
        TermError::TooDeep => resource("term_depth"),
        TermError::TooLong | TermError::IntegerTooLong | TermError::TooManyArguments => {
            resource("term_size")
        }
        TermError::NotFinite
        | TermError::ZeroDenominator
        | TermError::NoArguments
        | TermError::NotNormal(_) => representation("term"),
    }
}

/// Of a write that was not taken.
pub(super) fn unwritable(error: WriteError) -> Ball {
    match error {
        WriteError::TooLarge => resource("transaction_size"),
        WriteError::NotCallable => representation("fact"),
    }
}
