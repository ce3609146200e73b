//! `cutover retire`: whether a color may be terminated, yes or no with reasons, at once or as soon as it is a yes.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use tokio::time::Instant;

use super::client::{self, Client, Trouble};
use super::progress::Progress;
use super::status::{in_color, since};
use super::switch::{color, duration};
use super::{Failure, Global, Of, out};
use crate::names::Color;
use crate::retire::{Check, Code, Permit};
use crate::time::{self, Human};

/// Ask whether a color may be terminated: yes or no, with reasons
#[derive(Args)]
#[command(
    long_about = "Ask whether a color may be terminated: yes or no, with reasons.\n\n\
        It may once it is not live, no cutover is under way, nothing is inside it, and nobody has to be able to go back \
        to it any more. Where names follow the service, no name may lead to it, all names must say everywhere what they \
        are to say, the answers from before must have expired, and nobody may have come through the old name for a \
        while. What is not known is a no.\n\n\
        It exits with 0 for yes and 1 for no, and terminates nothing itself. The answer holds for the moment it is \
        given.",
    after_help = "Examples:
  cutover retire blue                                the only service there is
  cutover retire blue shop --wait --timeout 1h && ./terminate-blue.sh
  cutover retire blue --json | jq -r '.reasons[].code'"
)]
pub struct Retire {
    /// The color that is to go
    #[arg(value_name = "COLOR", value_parser = color())]
    color: Color,
    #[command(flatten)]
    of: Of,
    /// Wait until the answer is yes
    #[arg(long)]
    wait: bool,
    /// How long to wait for that, such as 30m or 2h; then the answer is no [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
}

impl Retire {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            let question = Question { client: &client, path: format!("/v1/services/{service}/retire/{}", self.color) };
            let answer = match self.wait {
                false => question.ask().await,
                true => question.wait(self.timeout).await,
            };
            let (permit, json) = answer.map_err(client.fails())?;
            let text = if global.json { json } else { page(&permit) };
            match permit.may {
                true => out::line(&text),
                // The answer is the result, also where it is no.
                false => Err(Failure::Answer(text, 1)),
            }
        })
    }
}

/// What is asked, and whom.
struct Question<'a> {
    client: &'a Client,
    path: String,
}

impl Question<'_> {
    /// The answer, and as it came.
    async fn ask(&self) -> Result<(Permit, String), Trouble> {
        let answer = self.client.get(&self.path).await?;
        Ok((answer.read()?, answer.text))
    }

    /// Asks until it is a yes, or the time is over, or Ctrl-C: then the last answer counts.
    async fn wait(&self, timeout: Option<Duration>) -> Result<(Permit, String), Trouble> {
        let (begun, mut last) = (Instant::now(), self.ask().await?);
        let (mut progress, mut missed) = (Progress::new(), 0);
        while !last.0.may {
            let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            if left == Some(Duration::ZERO) {
                break;
            }
            show(&mut progress, &last.0, begun.elapsed());
            tokio::select! {
                () = tokio::time::sleep(left.unwrap_or(PAUSE).min(PAUSE)) => {}
                _ = tokio::signal::ctrl_c() => {
                    progress.leave();
                    break;
                }
            }
            match self.ask().await {
                Ok(answer) => (last, missed) = (answer, 0),
                // A proxy that is restarted, or busy, may miss some.
                Err(Trouble::Unreachable { .. }) if missed < PATIENCE => missed += 1,
                Err(trouble) => return Err(trouble),
            }
        }
        Ok(last)
    }
}

/// Which reasons there are, and who waits for how long.
fn show(progress: &mut Progress<Vec<Code>>, permit: &Permit, waited: Duration) {
    let (codes, reasons): (Vec<Code>, Vec<&str>) =
        permit.reasons.iter().map(|reason| (reason.code, reason.text.as_str())).unzip();
    let Permit { service, color, .. } = permit;
    progress.tell(codes, &format!("{service}: {color} must not be retired yet: {}", reasons.join("; ")));
    progress.draw(waits(permit, waited));
}

fn waits(permit: &Permit, waited: Duration) -> String {
    let end = match permit.until {
        Some(until) => format!("at the earliest in {}", Human(since(permit.at, until))),
        None => "nobody can say how long".to_owned(),
    };
    let reasons: Vec<String> = permit.reasons.iter().map(|reason| format!("\n    {}", reason.text)).collect();
    let Permit { service, color, .. } = permit;
    format!("{service}: {color} must not be retired yet; waited {}, {end}{}", Human(waited), reasons.concat())
}

/// All of it, for people.
fn page(permit: &Permit) -> String {
    let (name, color) = (&permit.service, in_color(permit.color));
    let verdict = match permit.may {
        true => out::styled(GOOD, "may be retired"),
        false => out::styled(BAD, "must not be retired"),
    };
    let mut text = format!("{name}: {color} {verdict}");
    let lines = permit.reasons.iter().chain(&permit.grounds).map(line);
    lines.for_each(|line| text.push_str(&line));
    if let Some(until) = permit.until {
        let (at, left) = (until.strftime("%Y-%m-%d %H:%M:%SZ"), Human(since(time::now(), until)));
        text.push_str(&format!("\nonly time is missing: at the earliest at {at}, in {left}"));
    }
    text
}

fn line(check: &Check) -> String {
    let mark = if check.holds { out::styled(GOOD, "✓") } else { out::styled(BAD, "✗") };
    format!("\n  {mark} {:<16} {}", check.code.as_str(), check.text)
}

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const PAUSE: Duration = Duration::from_secs(1);
/// Questions in a row that may get no answer.
const PATIENCE: u32 = 10;
