//! The hands of a driver: they do what the machine finds due, and say what came of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use super::ask;
use super::driver::Mail;
use super::evidence::{Drained, Probed, Switched};
use super::fitness::fitness;
use super::follow;
use super::gate::{Gate, GateKind};
use super::judge::{Clock, Judgement, Look, Verdict, judge};
use super::machine::{Bar, Effect, Event};
use super::probe;
use super::recorder::{Recorder, Watch};
use super::share;
use super::state::{Cutover, Stop};
use super::warmed::Warmed;
use super::web::Web;
use crate::config::{Bake, Drain, Share, Then};
use crate::names::Color;
use crate::proxy::Listeners;
use crate::table::{Service, Switchboard, Warming};
use crate::time::{self, Moment};

/// What an effect works with. Rules are those the service has when the effect begins.
#[derive(Clone)]
pub struct Hands {
    pub service: Arc<Service>,
    pub switchboard: Arc<Switchboard>,
    /// What clients come by.
    pub listeners: Arc<Listeners>,
    pub recorder: Arc<Recorder>,
    /// How the new color does, while it is judged.
    pub trial: Arc<watch::Sender<Option<Judgement>>>,
    /// The color that is judged from the switch on, through all phases of that cutover.
    pub watched: Arc<Mutex<Option<Watched>>>,
    /// Both colors, through all steps of that cutover's ramp: one of them may be too short to say anything.
    pub ramped: Arc<Mutex<Option<Ramped>>>,
    /// What is told of the service's names.
    pub names: watch::Receiver<Option<follow::Told>>,
    /// Where what happens on the way is told.
    pub mail: mpsc::Sender<Mail>,
}

/// The color that a cutover has made live, as it is watched from then on.
pub struct Watched {
    id: String,
    watch: Watch,
    /// How long it had been live when this began, which is more than nothing only after a restart. Only then does the wall
    /// clock count: one that jumps neither ends a bake nor lengthens it.
    before: Duration,
    begun: Instant,
}

/// The colors of a cutover as they are watched while the share of the new one rises.
pub struct Ramped {
    id: String,
    new: Watch,
    old: Watch,
}

impl Hands {
    /// What came of it, where that is to be told.
    pub async fn perform(self, effect: Effect, cutover: &Cutover) -> Option<Event> {
        Some(match effect {
            Effect::Check(color, bar) => self.check(color, bar).await,
            Effect::CheckLater(color, bar) => {
                tokio::time::sleep(self.newest().rules.health.interval).await;
                self.check(color, bar).await
            }
            Effect::Ask(name) => self.ask(&name, cutover).await,
            Effect::Warm(color) => self.warm(color).await,
            Effect::Weigh(step) => Event::Judged(self.weigh(step, cutover).await),
            Effect::Ramp(_) => self.ramp(cutover).await,
            Effect::Share(_) => {
                self.share(cutover).await;
                return None;
            }
            Effect::Publish(color) => self.publish(color, cutover).await,
            Effect::Drain(color) => {
                let (service, begun) = (self.newest(), cutover.switched().and_then(|switched| switched.begun_on_old));
                let drain = self.drain(color, &service.rules.cutover.drain, begun.unwrap_or_default());
                let (drained, probed) = tokio::join!(drain, self.probe(color.other(), cutover));
                if self.switchboard.is_deserted() {
                    // Who has left may have been cut off with his worker. The next start says that it does not know.
                    return None;
                }
                Event::Drained(color, Drained { probed: Some(probed), restarted: begun.is_none(), ..drained })
            }
            Effect::Judge => Event::Judged(self.judge(cutover).await),
            Effect::Guard => Event::Judged(self.guard(cutover).await?),
            Effect::Follow => Event::Followed(self.follow(cutover.to).await),
        })
    }

    /// Why names do not lead to the color, empty where they do.
    async fn follow(&self, color: Color) -> Vec<String> {
        let service = self.newest();
        let Some(rules) = service.rules.dns.as_ref() else { return vec![follow::NO_NAMES.to_owned()] };
        follow::follow(self.names.clone(), color, rules.deadline).await
    }

    fn newest(&self) -> Arc<Service> {
        self.switchboard.newest(&self.service)
    }

    async fn check(&self, color: Color, bar: Bar) -> Event {
        self.service.pools[color].check_now().await;
        let (readiness, gates) = fitness(&self.service, &self.newest().rules.cutover, color, bar);
        Event::Health(color, readiness, gates)
    }

    async fn ask(&self, name: &str, cutover: &Cutover) -> Event {
        let gates = cutover.gates.iter().find(|gate| gate.name == name && !gate.is_own()).cloned();
        let gate = gates.unwrap_or_else(|| Gate::waiting(name, GateKind::Approval, Then::default()));
        let service = self.newest();
        let Some(rules) = service.rules.cutover.gates.iter().find(|rules| rules.name == name) else {
            return Event::Gate(gate.decided(false, time::now(), "the config no longer has it"));
        };
        let waiting = Gate { says: ask::waits(rules, cutover), ..gate.clone() };
        self.tell(cutover, Event::Gate(waiting)).await;
        Event::Gate(ask::ask(&gate, rules, cutover, &Web).await)
    }

    /// Has every worker do its part, until all have or the time for it is over. The color stays open until the driver
    /// leaves the phase, however it does.
    async fn warm(&self, color: Color) -> Event {
        let service = self.newest();
        let Some(rules) = service.rules.cutover.warm.clone() else {
            return Event::Warmed(Warmed::default(), vec!["the config no longer says how to warm up".to_owned()]);
        };
        let (pool, deadline, most) = (&service.pools[color], rules.deadline, rules.max_error_share);
        // After a restart nothing is known of them yet.
        let _ = tokio::time::timeout(deadline, pool.checked()).await;
        let warming = Arc::new(Warming::of(pool, rules));
        self.switchboard.warm(&service.name, Some(warming.clone())).await;
        // What is not over by then has failed.
        let _ = tokio::time::timeout(deadline, warming.over()).await;
        let warmed = Warmed::look(&warming, pool);
        let against = warmed.against(color, most);
        Event::Warmed(warmed, against)
    }

    async fn tell(&self, cutover: &Cutover, event: Event) {
        // The driver ends only with its service, and no cutover is under way then.
        let _ = self.mail.send(Mail::Event(cutover.id.clone(), event)).await;
    }

    async fn publish(&self, color: Color, cutover: &Cutover) -> Event {
        // Only a switch is followed by a judgement, not the way back.
        let baseline = (color == cutover.to && cutover.outline.bake).then(|| {
            let patience = self.newest().rules.cutover.bake.clone().unwrap_or_default().unanswered;
            Box::new(self.recorder.minute(color.other(), patience))
        });
        if baseline.is_some() {
            // From before the first request, so that none is missed.
            self.watch_from_now(cutover).await;
        }
        let published = match cutover.step {
            // What has stayed live has been so all along: only the share of the other one ends.
            Some(_) => self.switchboard.split(&self.service.name, None).await,
            None => self.switchboard.publish(&self.service.name, color, cutover.generation()).await,
        };
        self.recorder.keep(published.at);
        let old = self.service.pools[color.other()].turnstile.entries();
        let switched = Switched {
            at: published.at,
            switch_us: u64::try_from(published.took.as_micros()).unwrap_or(u64::MAX),
            workers: published.workers,
            answered: published.answered,
            last_request_to_old: old.last.map(Moment::timestamp),
            begun_on_old: Some(old.count),
            baseline,
        };
        Event::Published(color, switched)
    }

    /// Waits for requests and tunnels, each up to its deadline. Requests end by their own timeouts and are left to;
    /// a tunnel may last for ever, so what is left of those is closed.
    ///
    /// `begun` is how many requests had begun there when the last worker answered.
    pub async fn drain(&self, color: Color, rules: &Drain, begun: u64) -> Drained {
        let pool = &self.service.pools[color];
        let turnstile = &pool.turnstile;
        let since = Moment::now();
        let requests = || tokio::time::timeout(rules.requests, turnstile.requests_gone());
        let tunnels = async {
            // A request that is still inside may yet become a tunnel.
            let _ = requests().await;
            turnstile.tunnels_gone().await;
        };
        let (_, all) = tokio::join!(requests(), tokio::time::timeout(rules.tunnels, tunnels));
        let mut tunnels_closed = 0;
        if all.is_err() {
            tunnels_closed = turnstile.inside().tunnels;
            pool.cut_tunnels();
            let _ = tokio::time::timeout(CUT, turnstile.tunnels_gone()).await;
        }
        Drained {
            drain_ms: u64::try_from(Moment::now().since(since).as_millis()).unwrap_or(u64::MAX),
            requests_left: turnstile.inside().requests,
            tunnels_closed,
            restarted: false,
            requests_to_old_since: turnstile.entries().count.saturating_sub(begun),
            probed: None,
        }
    }

    /// Has every worker say, to one who comes as clients do, which color it sees.
    async fn probe(&self, live: Color, cutover: &Cutover) -> Probed {
        let (service, seal, listeners) = (self.newest(), self.switchboard.seal(), self.listeners.load_full());
        let expected = probe::Expected { live, generation: cutover.generation(), workers: self.switchboard.workers() };
        let probed = probe::probe(&listeners, &service.rules, &seal, expected).await;
        for why in &probed.astray {
            tracing::error!(id = %cutover.id, "{}: the switch is not what it says: {why}", service.name);
        }
        for why in &probed.unproved {
            tracing::warn!(id = %cutover.id, "{}: not proved: {why}", service.name);
        }
        probed
    }

    /// Gives the new color the share of its step, where there is one.
    async fn share(&self, cutover: &Cutover) -> Option<Share> {
        let split = share::split(cutover, &self.newest().rules.cutover.canary)?;
        self.switchboard.split(&self.service.name, Some(split)).await;
        Some(split.share)
    }

    /// Gives the new color its share, and judges it beside the old one until the step is over.
    async fn weigh(&self, step: u32, cutover: &Cutover) -> Judgement {
        let rules = self.newest().rules.cutover.clone();
        let canary = usize::try_from(step).ok().and_then(|step| rules.canary.get(step));
        let (Some(canary), Some(_)) = (canary, self.share(cutover).await) else {
            return undecided("the config no longer has this step");
        };
        let bake = step_rules(rules.bake.unwrap_or_default(), canary.weight, canary.lasts);
        self.compare(&bake, cutover).await
    }

    /// Gives the new color the share of this step of the ramp for its time. It is no trial: only where the cutover judges at
    /// all, what is surely bad by now does not get more.
    async fn ramp(&self, cutover: &Cutover) -> Event {
        let rules = self.newest().rules.cutover.clone();
        let length = rules.ramp / cutover.outline.ramp.max(1);
        let share = self.share(cutover).await.unwrap_or(Share::ALL);
        let bake = step_rules(rules.bake.unwrap_or_default(), share, length);
        let watch = |color| Watch::begin(&self.recorder, color, bake.unanswered);
        let anew = || Ramped { id: cutover.id.clone(), new: watch(cutover.to), old: watch(cutover.from) };
        let mut ramped = self.ramped.lock().await;
        let ramped = match &mut *ramped {
            Some(ramped) if ramped.id == cutover.id => ramped,
            other => other.insert(anew()),
        };
        let begun = Instant::now();
        let is_judged = cutover.outline.bake || cutover.outline.canary > 0;
        while let Some(left) = length.checked_sub(begun.elapsed()).filter(|left| *left > Duration::ZERO) {
            tokio::time::sleep(left.min(LOOK)).await;
            let judged = judge(&ramped.new.look(), &ramped.old.look(), &bake, Clock::Running);
            if is_judged && judged.verdict == Verdict::Bad {
                return Event::Judged(dated(judged));
            }
        }
        Event::Ramped
    }

    /// Judges the new color by what it does with all of the traffic, against what the old one did before.
    async fn judge(&self, cutover: &Cutover) -> Judgement {
        let Some(rules) = self.newest().rules.cutover.bake.clone() else {
            return undecided("the config no longer says how to judge");
        };
        self.judge_by(&rules, cutover).await
    }

    /// Goes on judging for as long as the driver is in the phase. What is not bad need not be said: its time is over.
    async fn guard(&self, cutover: &Cutover) -> Option<Judgement> {
        let endless = |rules: Bake| Bake { length: ENDLESS, ..rules };
        let rules = self.newest().rules.cutover.bake.clone();
        if cutover.paused != Some(Stop::Canary) {
            return Some(self.judge_by(&endless(rules?), cutover).await);
        }
        Some(self.compare(&endless(rules.unwrap_or_default()), cutover).await)
    }

    /// Judges the new color beside the old one, where both have clients.
    async fn compare(&self, rules: &Bake, cutover: &Cutover) -> Judgement {
        let watch = |color| Watch::begin(&self.recorder, color, rules.unanswered);
        let (mut new, mut old, begun) = (watch(cutover.to), watch(cutover.from), Instant::now());
        self.watch(rules, || (new.look(), old.look(), begun.elapsed())).await
    }

    async fn judge_by(&self, rules: &Bake, cutover: &Cutover) -> Judgement {
        // After a restart nothing is known of what was before.
        if self.watched.lock().await.as_ref().is_none_or(|watched| watched.id != cutover.id) {
            self.watch_from_now(cutover).await;
        }
        let mut watched = self.watched.lock().await;
        let Some(Watched { watch, before, begun, .. }) = watched.as_mut() else { return undecided("nobody watches") };
        let old = cutover.switched().and_then(|switched| switched.baseline.as_deref()).cloned().unwrap_or_default();
        let old = Look::from(old);
        self.watch(rules, || (watch.look(), old.clone(), *before + begun.elapsed())).await
    }

    async fn watch_from_now(&self, cutover: &Cutover) {
        let patience = self.newest().rules.cutover.bake.clone().unwrap_or_default().unanswered;
        let watch = Watch::begin(&self.recorder, cutover.to, patience);
        let before = cutover.switched().map(|switched| time::now().duration_since(switched.at));
        let before = before.and_then(|before| Duration::try_from(before).ok()).unwrap_or_default();
        *self.watched.lock().await = Some(Watched { id: cutover.id.clone(), watch, before, begun: Instant::now() });
    }

    /// Looks again and again until there is a verdict.
    async fn watch(&self, rules: &Bake, mut look: impl FnMut() -> (Look, Look, Duration)) -> Judgement {
        loop {
            let (new, old, gone) = look();
            let clock = match gone {
                gone if gone < rules.length => Clock::Running,
                gone if gone < rules.length + rules.extend => Clock::Over,
                _ => Clock::Final,
            };
            let judged = judge(&new, &old, rules, clock);
            self.trial.send_replace(Some(judged.clone()));
            if judged.verdict != Verdict::Watching {
                return dated(judged);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A canary's step is judged as the bake is, by as much of the least sample as it has of the clients.
fn step_rules(bake: Bake, weight: Share, lasts: Duration) -> Bake {
    let share = bake.min_requests.saturating_mul(u64::from(weight.0)) / u64::from(Share::ALL.0);
    Bake { length: lasts, extend: lasts, min_requests: share.max(LEAST_OF_STEP).min(bake.min_requests), ..bake }
}

/// A pause may be long, and its figures go on: what has led to it says of when it is.
fn dated(judged: Judgement) -> Judgement {
    let at = time::now().strftime("%H:%M:%SZ").to_string();
    let reasons = judged.reasons.iter().map(|reason| format!("{reason} (at {at})")).collect();
    Judgement { reasons, ..judged }
}

fn undecided(why: &str) -> Judgement {
    let reasons = vec![why.to_owned()];
    Judgement { verdict: Verdict::Undecided, requests: 0, baseline: 0, measures: Vec::new(), reasons }
}

/// A tunnel that has been told to end takes no longer than a turn of its worker.
const CUT: Duration = Duration::from_secs(1);
/// Between two looks at how a color does.
const LOOK: Duration = Duration::from_millis(200);
/// Longer than any pause lasts.
const ENDLESS: Duration = Duration::from_secs(1 << 40);
/// Requests that a canary's step is judged by, however small its share is.
const LEAST_OF_STEP: u64 = 20;
