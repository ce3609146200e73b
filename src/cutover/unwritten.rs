//! What has happened to a cutover and is not on disk yet, since the journal could not be written.

use std::fmt;

use super::state::Cutover;

/// One for each service at the most. The proxy goes by it; a restart would go by what the journal says.
#[derive(Clone, Debug, PartialEq)]
pub struct Unwritten {
    /// As it is now.
    pub cutover: Cutover,
    pub why: String,
}

impl fmt::Display for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unwritten { cutover: Cutover { id, phase, .. }, why } = self;
        let phase = phase.as_str().replace('_', " ");
        write!(
            f,
            "cutover {id} is in its phase {phase}, which is not on disk yet: {why}; once that is mended it is \
             written down by itself, and a restart before that takes the cutover up as it was"
        )
    }
}
