//! The judge: what is believed of an answer, and who stays though it does not name him. Pure, so that it is proved whole.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::source::Found;
use super::vet::{Facts, Refused};
use crate::config::Share;
use crate::time::Timestamp;

/// What is known of a color's endpoints.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// In the order of their addresses; no more than [`MOST`].
    pub members: Vec<Member>,
    /// How many endpoints the last answer had that was believed.
    pub named: usize,
    /// The last answer, where it is not believed for having so few.
    doubted: Option<Doubted>,
}

/// One of the endpoints that are to be in the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    pub address: SocketAddr,
    /// What the source calls it.
    pub name: Option<String>,
    pub standing: Standing,
    /// When an answer first left it out.
    pub since: Option<Timestamp>,
}

/// Why an endpoint is in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The last answer that was believed has it, or one since.
    Named,
    /// An answer that is believed has left it out, and it passes its checks: it goes when it fails.
    Lingers,
    /// An answer that is not believed has left it out.
    Doubted,
    /// From before this source was asked: it goes with the first answer that does not have it.
    Inherited,
}

impl Standing {
    pub const ALL: [Standing; 4] = [Standing::Named, Standing::Lingers, Standing::Doubted, Standing::Inherited];

    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Named => "named",
            Standing::Lingers => "lingers",
            Standing::Doubted => "doubted",
            Standing::Inherited => "inherited",
        }
    }
}

/// Whether an answer is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    Believed,
    /// It has no endpoint.
    Empty,
    /// It has fewer than it needed to have.
    Shrunk {
        named: usize,
        of: usize,
        needed: usize,
        times: u32,
    },
}

/// How an answer is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    pub min_share: Share,
    /// An operator says that it is right.
    pub accept: bool,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
struct Doubted {
    addresses: Vec<SocketAddr>,
    /// How often it came in a row.
    times: u32,
}

impl Known {
    /// Endpoints as they have been left: those that this source named, when it was last believed, and others.
    pub fn begin(named: usize, members: Vec<Member>) -> Known {
        Known { members, named, doubted: None }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// What is known after an answer, whose endpoints have been vetted; whether it is believed; and whom there is no room
    /// for.
    ///
    /// With few endpoints or none an answer is more often wrong than right: half a page, a tag mistyped, a name just
    /// deleted. Believed at once it would cost nobody who passes his checks, but who fails one just then would not come
    /// back. So it needs the health checks as witnesses, three times in a row, or an operator's word; and one without
    /// any endpoint needs that word.
    pub fn hear(&self, answer: &[Found], facts: &Facts, terms: Terms) -> (Known, Belief, Vec<Refused>) {
        let belief = self.belief(answer, facts, terms);
        let (lost, doubted) = match belief {
            Belief::Empty => {
                let doubted = self.doubted.clone().map(|doubted| Doubted { times: 0, ..doubted });
                return (Known { doubted, ..self.clone() }, belief, Vec::new());
            }
            Belief::Believed => (Standing::Lingers, None),
            Belief::Shrunk { times, .. } => (Standing::Doubted, Some(Doubted { addresses: addresses(answer), times })),
        };
        let believed = belief == Belief::Believed;
        let stays = |member: &Member| match member.standing {
            _ if !believed => true,
            Standing::Inherited => false,
            _ => !terms.accept && !facts.has_failed(&member.address),
        };
        let without = self.members.iter().filter(|member| !names(answer, &member.address));
        let mut members: Vec<_> =
            without.filter(|member| stays(member)).map(|member| member.left_out(lost, terms.now)).collect();
        let known = |one: &&Found| self.members.iter().any(|member| member.address == one.address);
        let (staying, joining): (Vec<_>, Vec<_>) = answer.iter().partition(known);
        let named = |found: &Found| Member {
            address: found.address,
            name: found.name.clone(),
            standing: Standing::Named,
            since: None,
        };
        members.extend(staying.into_iter().map(named));
        let room = MOST.saturating_sub(members.len()).min(joining.len());
        members.extend(joining[..room].iter().map(|found| named(found)));
        members.sort_by_key(|member| member.address);
        let why = format!("there are {MOST} endpoints already, and no color has more");
        let refused =
            joining[room..].iter().map(|found| Refused { address: found.address, why: why.clone() }).collect();
        let named = if believed { answer.len() } else { self.named };
        (Known { members, named, doubted }, belief, refused)
    }

    /// Lets those go who have lingered until they failed.
    pub fn settle(&mut self, facts: &Facts) {
        self.members.retain(|member| member.standing != Standing::Lingers || !facts.has_failed(&member.address));
    }

    fn belief(&self, answer: &[Found], facts: &Facts, terms: Terms) -> Belief {
        if terms.accept {
            return Belief::Believed;
        }
        if answer.is_empty() {
            return Belief::Empty;
        }
        let needed = terms.min_share.of(self.named);
        if answer.len() >= needed {
            return Belief::Believed;
        }
        let before = self.doubted.as_ref().filter(|doubted| doubted.addresses == addresses(answer));
        let times = before.map_or(1, |doubted| doubted.times.saturating_add(1));
        let mut without = self.members.iter().filter(|member| !names(answer, &member.address));
        match times >= WITNESSED && without.all(|member| facts.has_failed(&member.address)) {
            true => Belief::Believed,
            false => Belief::Shrunk { named: answer.len(), of: self.named, needed, times },
        }
    }
}

impl Member {
    /// Left out once more: since when is as it was, and what was believed stays so.
    fn left_out(&self, lost: Standing, now: Timestamp) -> Member {
        let standing = match (self.standing, lost) {
            (Standing::Named, lost) => lost,
            (Standing::Doubted, Standing::Lingers) => Standing::Lingers,
            (before, _) => before,
        };
        Member { standing, since: self.since.or(Some(now)), ..self.clone() }
    }
}

impl Belief {
    /// Why it is not believed.
    pub fn doubt(&self) -> Option<String> {
        match self {
            Belief::Believed => None,
            Belief::Empty => Some(
                "the answer has no endpoint, and what was known stays; if that is right: cutover discover --accept"
                    .to_owned(),
            ),
            Belief::Shrunk { named, of, needed, .. } => Some(format!(
                "the answer has {named} of {of} endpoints, and with fewer than {needed} it is not believed (`min_share`) before \
                 it has come {WITNESSED} times in a row and everybody else fails the checks; if it is right: cutover discover --accept"
            )),
        }
    }
}

fn names(answer: &[Found], address: &SocketAddr) -> bool {
    answer.iter().any(|found| found.address == *address)
}

fn addresses(answer: &[Found]) -> Vec<SocketAddr> {
    answer.iter().map(|found| found.address).collect()
}

/// Endpoints of one color.
pub const MOST: usize = 1000;
/// How often an answer with few endpoints has to come before health checks can bear witness to it.
const WITNESSED: u32 = 3;

#[cfg(test)]
mod tests;
