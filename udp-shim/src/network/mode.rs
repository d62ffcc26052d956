//! The ways to capture. All that tells one from another is asked of [`Mode`], here; what each opens is in
//! [`Opened::by`](super::Opened::by).

use std::fmt;
use std::str::FromStr;

/// How datagrams are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By membership.
    Join,
    /// By redirection.
    Redirect,
}

impl Mode {
    /// All of them, the best last.
    pub(super) const ALL: [Self; 2] = [Self::Join, Self::Redirect];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Redirect => "redirect",
        }
    }

    /// Whether what is captured is taken from the applications here, and is to be put back.
    pub fn takes(self) -> bool {
        match self {
            Self::Join => false,
            Self::Redirect => true,
        }
    }

    /// Whether what applications send goes out to their segment, where other nodes may hear it, too.
    pub(super) fn is_on_segment(self) -> bool {
        match self {
            Self::Join => true,
            Self::Redirect => false,
        }
    }

    /// Whether routes of ours lead to the groups.
    pub(super) fn has_routes(self) -> bool {
        match self {
            Self::Join => false,
            Self::Redirect => true,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(" and ");
            match text {
                "tun" => format!("`tun` is not in this version; there are {known}"),
                _ => format!("`{text}` is no way to capture; those are {known}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_found_by_its_name() {
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        let said = |text: &str| text.parse::<Mode>().unwrap_err();
        assert_eq!(said("sniff"), "`sniff` is no way to capture; those are join and redirect");
        assert_eq!(said("tun"), "`tun` is not in this version; there are join and redirect");
    }
}
