//! What may be wrong with an export, and where.

use super::{MAX_ITEM, VERSION};
use crate::cbor;
use std::fmt;

/// Why an export is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The bytes do not begin with an export's header.
    #[error(
        "not an export of a Synod log: those begin with the header that `synod log export` writes"
    )]
    NotAnExport,
    /// It was written by another version of this program.
    #[error(
        "an export of version {0}, and this Synod reads version {VERSION}: use the Synod that wrote it"
    )]
    OtherVersion(u64),
    /// Something is wrong at one place.
    #[error("index {index}, byte {}: {flaw}", Grouped(*offset))]
    Flawed {
        /// The index that stands, or is due, there.
        index: u64,
        /// Where the item at fault begins, in bytes from the start.
        offset: u64,
        /// What is wrong.
        flaw: Flaw,
    },
}

/// What is wrong with an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// The bytes are not CBOR as it is written here.
    #[error("not CBOR as an export has it: {0}")]
    NotCbor(cbor::What),
    /// The bytes are CBOR, but no item of an export.
    #[error("neither an envelope nor the end")]
    NotAnItem,
    /// An item is longer than any that is written.
    #[error("an item of more than {MAX_ITEM} bytes")]
    TooLong,
    /// An envelope stands where another is due.
    #[error("the command of index {found} stands where {due} is due: {}", misplaced(*found, *due))]
    OutOfOrder {
        /// The next index.
        due: u64,
        /// The index that was found.
        found: u64,
    },
    /// The chain before the first command is another one than the space's.
    #[error("the chain before the first command is not the space's id")]
    Beginning,
    /// The time is before that of the command before.
    #[error("its time is before that of the command before it")]
    Backwards,
    /// The chain is another one than the envelope says.
    #[error("its check does not fit: this command, its index or its time is not what was written")]
    Check,
    /// The end is that of another index.
    #[error("the end is that of index {found}, and the last command is {last}: {}",
        if found > last { "what is between them is missing" } else { "what is behind it was added" })]
    OtherEnd {
        /// The last index.
        last: u64,
        /// That of the end.
        found: u64,
    },
    /// The end's chain is another one.
    #[error("the chain at the end is not that of the commands before it")]
    EndChain,
    /// There is no end.
    #[error("cut: the file ends {}, and its end is missing", if *inside { "inside an item" } else { "here" })]
    Cut {
        /// Whether it stops in the middle of an item.
        inside: bool,
    },
    /// Something stands behind the end.
    #[error("bytes follow the end")]
    Trailing,
}

fn misplaced(found: u64, due: u64) -> &'static str {
    if found > due {
        "something is missing, or in another order"
    } else {
        "it is there twice, or in another order"
    }
}

/// A number with its thousands apart, as people read it.
struct Grouped(u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let first = match digits.len() % 3 {
            0 => 3,
            n => n,
        };
        f.write_str(&digits[..first.min(digits.len())])?;
        let rest = digits.get(first..).unwrap_or_default();
        for group in rest.as_bytes().chunks(3) {
            write!(f, ",{}", String::from_utf8_lossy(group))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (n, text) in [(0, "0"), (999, "999"), (2034, "2,034"), (123_456_789, "123,456,789")] {
            assert_eq!(Grouped(n).to_string(), text);
        }
    }
}
