//! `cutover preview`: lets some see the color that is not live, before everyone else does.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::client::{self, Client};
use super::switch::{color, duration};
use super::{Failure, Global, Of, out};
use crate::admin::Previewed;
use crate::names::Color;
use crate::time::Human;

/// Make a link that reaches the color that is not live
#[derive(Args)]
#[command(
    long_about = "Make a link that reaches the color that is not live.\n\n\
        The color is opened to whoever has the link, and to the networks that the config names; everyone else stays \
        where they are. A browser that follows the link is sent on without the invitation, which it keeps as a cookie; \
        a script sends it as a header. Endpoints see neither.\n\n\
        A link works until it expires, until previews are ended, until the next switch, or until the proxy ends, \
        whichever comes first. Then it is refused instead of showing the other color, also while a later preview is open.",
    after_help = "Examples:
  cutover preview green
  cutover preview green shop --for 30m --url https://shop.example.com/checkout
  curl -H \"$(cutover preview green --header)\" https://shop.example.com/
  cutover preview green --end           close it again, whoever has a link"
)]
pub struct Preview {
    /// The color that is to be seen; not the live one
    #[arg(value_name = "COLOR", value_parser = color())]
    to: Color,
    #[command(flatten)]
    of: Of,
    /// How long the link works, 1s to 24h [default: `preview.for` of the service's config]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    lasts: Option<Duration>,
    /// Where the link leads [default: the service's first host and path, at a listener of this proxy]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print the header instead of the link
    #[arg(long, conflicts_with = "url")]
    header: bool,
    /// End previews of the service
    #[arg(long, conflicts_with_all = ["lasts", "url", "header"])]
    end: bool,
}

impl Preview {
    pub fn run(self, global: &Global) -> Result<(), Failure> {
        let client = Client::new(global)?;
        client::block_on(async {
            let service = client.service(&self.of).await?;
            let lasts = self.lasts.map(client::written);
            let body = json!({ "to": self.to, "end": self.end, "for": lasts, "url": self.url });
            let path = format!("/v1/services/{service}/preview");
            let answer = client.post(&path, &body, Some(Duration::ZERO)).await.map_err(client.fails())?;
            let previewed: Previewed = answer.read().map_err(client.fails())?;
            out::line(&match (global.json, &previewed.header) {
                (true, _) => answer.text,
                (false, Some((name, value))) if self.header => format!("{name}: {value}"),
                (false, _) => says(&previewed, crate::time::now()),
            })
        })
    }
}

fn says(previewed: &Previewed, now: crate::time::Timestamp) -> String {
    let Previewed { service, to, until, link, header, endpoints_up, endpoints } = previewed;
    let (Some(until), Some(link), Some((name, value))) = (until, link, header) else {
        return format!("{service}: {to} cannot be previewed any longer");
    };
    // The clock has gone on since it was opened.
    let left = super::status::since(now, *until).as_secs_f64().round() as u64;
    let (at, left) = (until.strftime("%Y-%m-%d %H:%M:%SZ"), Human(Duration::from_secs(left)));
    format!(
        "{service}: {to} can be previewed until {at} ({left}); {endpoints_up} of its {endpoints} endpoints are up\n  \
         link    {link}\n  header  {name}: {value}"
    )
}
