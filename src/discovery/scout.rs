//! The scout of a color: asks its source, has each answer judged, writes down what is believed, and hands it in.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::desk::{Desk, Heard, Mail, Order, Outcome, Seen};
use super::figures::Figures;
use super::judge::{Belief, Known, Member, Standing, Terms};
use super::kept::Kept;
use super::pace::pause;
use super::source::{Answer, Source, SourceError};
use super::status::{State, Status};
use super::vet::{Facts, vet};
use crate::config::Discover;
use crate::journal::Journal;
use crate::names::{Color, ServiceName};
use crate::time::{self, Moment, Timestamp};

/// What a scout reaches of the proxy around it.
#[derive(Clone)]
pub struct Reach {
    pub journal: Arc<Journal>,
    pub look: Arc<dyn Fn() -> Facts + Send + Sync>,
    pub proposals: mpsc::Sender<Proposal>,
    pub told: broadcast::Sender<Status>,
}

/// The endpoints that a color's pool is to have from now on.
pub struct Proposal {
    pub service: ServiceName,
    pub color: Color,
    pub endpoints: Vec<SocketAddr>,
    /// Nobody may be listening any more.
    pub reply: oneshot::Sender<Result<(), NotNow>>,
}

/// Why the pool stays as it is; the same is proposed again until it fits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotNow(pub String);

/// Runs as one task for each color that is discovered, on the deciding runtime.
pub struct Scout {
    service: ServiceName,
    color: Color,
    rules: Discover,
    source: Arc<dyn Source>,
    reach: Reach,
    figures: Arc<Figures>,
    mailbox: mpsc::Receiver<Mail>,
    seen: watch::Sender<Seen>,
    known: Known,
    /// What the journal has.
    kept: Option<Kept>,
    status: Status,
    age: Option<(Duration, Moment)>,
    /// When the source is asked again.
    ask_at: Instant,
}

/// A question on its way, and who gave the order, if somebody did.
struct Question {
    answer: BoxFuture<'static, Result<Answer, SourceError>>,
    order: Option<Mail>,
}

impl Scout {
    /// A scout and its desk. The endpoints that are in the pool stay there until the source has spoken, and those that it
    /// named itself, by the journal, also longer.
    pub fn new(
        service: &ServiceName,
        color: Color,
        rules: Discover,
        source: Arc<dyn Source>,
        reach: Reach,
    ) -> (Scout, Desk) {
        let kept = Kept::find(&reach.journal, service, color, rules.from.get_ref());
        let known = inherit(&(reach.look)(), kept.as_ref());
        let status = Status {
            service: service.clone(),
            color,
            source: source.says(),
            state: State::Asking,
            asked: None,
            believed: kept.as_ref().map(|kept| kept.at),
            age_s: None,
            named: known.named,
            endpoints: known.members.clone(),
            left_out: Vec::new(),
            refused: Vec::new(),
            error: None,
            failures: 0,
            held: None,
            unwritten: None,
            next: None,
        };
        let now = time::now();
        let age = kept.as_ref().map(|kept| Duration::try_from(now.duration_since(kept.at)).unwrap_or_default());
        let age = age.map(|age| (age, Moment::now()));
        let (mail, mailbox) = mpsc::channel(MAILBOX);
        let (seen, shown) = watch::channel((status.clone(), age));
        let figures = Arc::new(Figures::default());
        let desk = Desk { service: service.clone(), color, figures: figures.clone(), mail, seen: shown };
        let scout = Scout {
            service: service.clone(),
            color,
            rules,
            source,
            reach,
            figures,
            mailbox,
            seen,
            known,
            kept,
            status,
            age,
            ask_at: Instant::now(),
        };
        (scout, desk)
    }

    pub async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut question: Option<Question> = None;
        loop {
            let is_ordered = question.as_ref().is_some_and(|question| question.order.is_some());
            tokio::select! {
                mail = self.mailbox.recv(), if !is_ordered => match mail {
                    // Whoever asks now gets an answer to a question of now.
                    Some(mail) => question = Some(self.ask(Some(mail))),
                    None => return,
                },
                answer = answered(&mut question) => {
                    let order = question.take().and_then(|question| question.order);
                    self.hear(answer, order).await;
                }
                () = sleep_until(self.ask_at), if question.is_none() => question = Some(self.ask(None)),
                _ = ticks.tick() => self.settle().await,
            }
        }
    }

    fn ask(&self, order: Option<Mail>) -> Question {
        let source = self.source.clone();
        let late = || SourceError::Unreachable(format!("no answer within {} s", LONGEST.as_secs()));
        let answer = async move { timeout(LONGEST, source.ask()).await.unwrap_or_else(|_| Err(late())) }.boxed();
        Question { answer, order }
    }

    async fn hear(&mut self, answer: Result<Answer, SourceError>, mail: Option<Mail>) {
        let (order, reply) = mail.unzip();
        let heard = match answer {
            Ok(answer) => self.judge(answer, order.as_ref()).await,
            Err(error) => self.fail(&error, order.as_ref()),
        };
        if let Some(reply) = reply {
            // Whoever asked may have gone; what was done is done.
            let _ = reply.send(heard);
        }
    }

    async fn judge(&mut self, answer: Answer, order: Option<&Order>) -> Heard {
        let Answer { endpoints, left_out, valid_for } = answer;
        let facts = (self.reach.look)();
        let (answer, mut refused) = vet(endpoints, self.color, &facts);
        let accept = order.is_some_and(|order| order.accept);
        let terms = Terms { min_share: self.rules.min_share, accept, now: time::now() };
        let (known, belief, surplus) = self.known.hear(&answer, &facts, terms);
        refused.extend(surplus);
        let (joins, leaves) = difference(&known, &facts);
        let not_named = known.members.iter().filter(|member| member.standing != Standing::Named);
        let mut heard = Heard {
            color: self.color,
            source: self.status.source.clone(),
            outcome: if joins.is_empty() && leaves.is_empty() { Outcome::Unchanged } else { Outcome::WouldApply },
            answer,
            left_out: shortened(left_out),
            refused: shortened(refused),
            joins,
            leaves,
            stays: not_named.map(|member| member.address).collect(),
            why: belief.doubt(),
        };
        if order.is_none_or(|order| !order.dry_run) {
            if let Some(order) = order.filter(|order| order.accept) {
                tracing::warn!("{} {}: the answer is accepted, by {}", self.service, self.color, order.by);
            }
            self.adopt(known, belief, &heard, terms.now, valid_for);
            self.apply().await;
            if heard.outcome == Outcome::WouldApply {
                heard.outcome = if self.status.held.is_some() { Outcome::Held } else { Outcome::Applied };
                heard.why = heard.why.or(self.status.held.clone());
            }
        }
        if belief != Belief::Believed {
            heard.outcome = Outcome::Doubted;
        }
        heard
    }

    fn adopt(&mut self, known: Known, belief: Belief, heard: &Heard, now: Timestamp, valid_for: Option<Duration>) {
        self.figures.count(Ok(belief));
        self.known = known;
        self.status.asked = Some(now);
        self.status.failures = 0;
        self.status.left_out.clone_from(&heard.left_out);
        self.status.refused.clone_from(&heard.refused);
        self.note_error(heard.why.clone());
        let mut holds = None;
        if belief == Belief::Believed {
            self.status.believed = Some(now);
            self.age = Some((Duration::ZERO, Moment::now()));
            holds = valid_for;
        }
        self.ask_in(self.rules.interval, holds);
    }

    fn fail(&mut self, error: &SourceError, order: Option<&Order>) -> Heard {
        if order.is_none_or(|order| !order.dry_run) {
            self.figures.count(Err(error));
            self.status.asked = Some(time::now());
            self.status.failures = self.status.failures.saturating_add(1);
            self.note_error(Some(error.to_string()));
            self.ask_in(self.rules.interval.max(time::pause(self.status.failures)), None);
            self.tell();
        }
        Heard {
            color: self.color,
            source: self.status.source.clone(),
            outcome: Outcome::Failed,
            answer: Vec::new(),
            left_out: Vec::new(),
            refused: Vec::new(),
            joins: Vec::new(),
            leaves: Vec::new(),
            stays: self.known.addresses(),
            why: Some(error.to_string()),
        }
    }

    fn ask_in(&mut self, least: Duration, valid_for: Option<Duration>) {
        let pause = pause(least, valid_for, fastrand::f64());
        self.ask_at = Instant::now() + pause;
        self.status.next = time::now().checked_add(pause).ok();
    }

    fn note_error(&mut self, error: Option<String>) {
        // Failures in a row are one: what is said of each may differ by no more than the number of a request.
        let is_new = self.status.error.is_some() != error.is_some() || self.status.failures < 2;
        if is_new && self.status.error != error {
            let (service, color, source) = (&self.service, self.color, &self.status.source);
            match &error {
                Some(error) => tracing::warn!("{service} {color}: {source}: {error}; what was known stays"),
                None => tracing::info!("{service} {color}: {source}: the answers are good again"),
            }
        }
        self.status.error = error;
    }

    /// Between answers: whoever lingers and has failed goes, and what could not be done is tried again.
    async fn settle(&mut self) {
        self.known.settle(&(self.reach.look)());
        self.apply().await;
    }

    /// The pool first, then the journal: what is kept is what a restart begins with, so it has to be what served. Were an
    /// answer kept that is held back while a switch runs, a restart would change endpoints under that switch.
    async fn apply(&mut self) {
        let (joins, leaves) = difference(&self.known, &(self.reach.look)());
        let held = match joins.is_empty() && leaves.is_empty() {
            true => None,
            false => self.propose().await.err().map(|NotNow(why)| why),
        };
        if self.status.held.is_none() {
            held.iter().for_each(|why| tracing::warn!("{} {}: endpoints wait: {why}", self.service, self.color));
        }
        self.status.held = held;
        if self.status.held.is_none() {
            self.write().await;
        }
        self.tell();
    }

    async fn propose(&self) -> Result<(), NotNow> {
        let (reply, settled) = oneshot::channel();
        let (service, endpoints) = (self.service.clone(), self.known.addresses());
        let proposal = Proposal { service, color: self.color, endpoints, reply };
        let stopping = |_| NotNow("the proxy is stopping".to_owned());
        self.reach.proposals.send(proposal).await.map_err(|_| stopping(()))?;
        settled.await.map_err(|_| stopping(()))?
    }

    async fn write(&mut self) {
        let at = self.status.believed.unwrap_or_else(time::now);
        let kept = Kept::of(&self.known, &self.service, self.color, self.rules.from.get_ref(), at);
        let is_known = match &self.kept {
            Some(known) => known.says(&kept),
            None => self.status.believed.is_none(),
        };
        if is_known {
            return self.status.unwritten = None;
        }
        match self.reach.journal.append(&kept).await {
            Ok(()) => (self.kept, self.status.unwritten) = (Some(kept), None),
            Err(error) => {
                let why = error.to_string();
                if self.status.unwritten.as_ref() != Some(&why) {
                    tracing::error!("{} {}: {why}", self.service, self.color);
                }
                self.status.unwritten = Some(why);
            }
        }
    }

    fn tell(&mut self) {
        let Scout { known, status, .. } = self;
        status.named = known.named;
        status.endpoints.clone_from(&known.members);
        status.state = match () {
            () if status.held.is_some() => State::Held,
            () if status.failures > 0 => State::Failing,
            () if status.error.is_some() => State::Doubted,
            () if status.asked.is_none() => State::Asking,
            () => State::Current,
        };
        let before = self.seen.send_replace((self.status.clone(), self.age));
        if self.status.tells(&before.0) {
            // An error means that nobody listens just now.
            let _ = self.reach.told.send(self.status.clone());
        }
    }
}

/// What is known before anyone is asked.
fn inherit(facts: &Facts, kept: Option<&Kept>) -> Known {
    let said = |address: &SocketAddr| kept?.endpoints.iter().find(|endpoint| endpoint.address == *address);
    let member = |address: SocketAddr| {
        let said = said(&address);
        let standing = if said.is_some() { Standing::Named } else { Standing::Inherited };
        Member { address, name: said.and_then(|endpoint| endpoint.name.clone()), standing, since: None }
    };
    let mut members: Vec<_> = facts.in_pool().map(member).collect();
    members.sort_by_key(|member| member.address);
    Known::begin(kept.map_or(0, |kept| kept.named), members)
}

/// Who comes into the pool, and who goes out of it.
fn difference(known: &Known, facts: &Facts) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let (want, has) = (known.addresses(), facts.in_pool().collect::<Vec<_>>());
    let missing =
        |from: &[SocketAddr], of: &[SocketAddr]| of.iter().filter(|one| !from.contains(one)).copied().collect();
    (missing(&has, &want), missing(&want, &has))
}

/// A source may know of any number of things; the first of them say what they are about.
fn shortened<T>(mut all: Vec<T>) -> Vec<T> {
    all.truncate(SHOWN);
    all
}

async fn answered(question: &mut Option<Question>) -> Result<Answer, SourceError> {
    match question {
        Some(question) => (&mut question.answer).await,
        None => std::future::pending().await,
    }
}

/// Orders that may wait.
const MAILBOX: usize = 16;
/// How often it is seen whether who lingers still passes, and whether what is held back fits now.
const TICK: Duration = Duration::from_secs(1);
/// A source has a deadline of its own; this is for one that forgets it.
const LONGEST: Duration = Duration::from_mins(2);
/// Of what is left out or refused.
const SHOWN: usize = 100;
