//! How far the account of a drill can be trusted: whether its evidence is the one that the operator has sealed.

/// How the evidence stands to the digest in the drill's status, which only the operator writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seal {
    /// The document is the one that the operator has sealed.
    Verified {
        /// Its digest.
        digest: String,
    },
    /// The document is another one.
    Mismatch {
        /// The digest in the status.
        expected: String,
        /// That of the document.
        actual: String,
    },
    /// The status has no digest to compare with.
    NoDigest {
        /// That of the document.
        digest: String,
    },
    /// The drill is deleted, and the digest in its status with it.
    DrillGone {
        /// That of the document.
        digest: String,
    },
    /// There should be evidence, and there is none.
    Missing {
        /// The digest in the status, where it was written.
        expected: Option<String>,
    },
    /// There may be evidence, and the user may not read it.
    NotAllowed,
    /// What is stored under the drill's name is of an earlier drill.
    OfAnotherDrill {
        /// The uid of the earlier one.
        uid: String,
    },
    /// The drill ended before a failover was called for: no evidence is kept of such a drill.
    NothingClaimed,
    /// The drill has not ended.
    NotConcluded,
}

impl Seal {
    /// True when nothing speaks against the account.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        matches!(self, Self::Verified { .. } | Self::NothingClaimed | Self::NotConcluded | Self::OfAnotherDrill { .. })
    }

    /// The digest of the document, where there is one.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::Verified { digest } | Self::NoDigest { digest } | Self::DrillGone { digest } => Some(digest),
            Self::Mismatch { actual, .. } => Some(actual),
            Self::Missing { .. } | Self::NotAllowed | Self::OfAnotherDrill { .. } | Self::NothingClaimed | Self::NotConcluded => None,
        }
    }

    /// The same for people.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Verified { .. } => "verified: the evidence has the digest that the operator wrote into the drill's status".to_owned(),
            Self::Mismatch { expected, actual } => format!(
                "NOT VERIFIED: the evidence has the digest {actual}, and the drill's status says {expected}. One of them was changed; do \
                 not rely on this report"
            ),
            Self::NoDigest { .. } => {
                "NOT VERIFIED: the drill's status has no digest to compare the evidence with (restored from a backup, or not yet written)"
                    .to_owned()
            }
            Self::DrillGone { .. } => {
                "NOT VERIFIED: the drill is deleted, and with it the digest to compare the evidence with. Compare it with an earlier report"
                    .to_owned()
            }
            Self::Missing { expected } => {
                let copy = expected.as_ref().map(|digest| format!(". A copy of it that has the digest {digest} is as good"));
                "NOT VERIFIED: the evidence of this drill is missing; this is only what the drill's status says. Find out who deleted its \
                 ConfigMap"
                    .to_owned()
                    + &copy.unwrap_or_default()
            }
            Self::NotAllowed => {
                "NOT VERIFIED: you may not read ConfigMaps here, where the evidence is; this is only what the drill's status says. Ask whoever \
                 runs the cluster for the role view"
                    .to_owned()
            }
            Self::OfAnotherDrill { uid } => {
                format!("no evidence: what is stored under this name is of an earlier drill ({uid}); this is what the status says")
            }
            Self::NothingClaimed => {
                "no evidence: the drill ended before a failover was called for; this is what its status says".to_owned()
            }
            Self::NotConcluded => "no evidence yet: the drill has not ended; this is what its status says".to_owned(),
        }
    }
}
