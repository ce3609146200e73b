//! One request: its turn, its deadline, its count; and a failure of the SDK told as what has happened.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_route53::config::http::HttpResponse;
use aws_sdk_route53::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_route53::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_route53::error::{BoxError, ProvideErrorMetadata, SdkError};
use hyper_util::client::legacy::Error as ConnectError;
use tokio::time::{Instant, timeout_at};

use super::Account;
use super::call::{Call, Operation};
use super::error::CallError;
use super::failure::{Answer, Failure, split, verdict};

impl Account {
    /// Waits for the service's turn, makes the request once, and counts how it ended.
    pub async fn ask<T, E, F>(
        &self,
        call: Call<'_>,
        deadline: Instant,
        send: impl FnOnce(Sent) -> F,
    ) -> Result<T, CallError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        self.attempt(call, deadline, send).await?.map_err(|failure| verdict(call, failure))
    }

    /// As `ask`, for who wants to know what exactly has happened. Without a turn in time nothing has.
    pub async fn attempt<T, E, F>(
        &self,
        call: Call<'_>,
        deadline: Instant,
        send: impl FnOnce(Sent) -> F,
    ) -> Result<Result<T, Failure>, CallError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>>,
    {
        if timeout_at(deadline, self.shared.pace.of(call.operation.service).turn()).await.is_err() {
            return Err(CallError::Busy(format!(
                "{}: too many requests of our own wait for their turn",
                call.operation
            )));
        }
        let sent = Sent::default();
        let answer = match timeout_at(deadline, send(sent.clone())).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(failure(&error, sent.is_so())),
            Err(_) if sent.is_so() => Err(Failure::NoAnswer("the time for the whole operation was over".to_owned())),
            Err(_) => Err(Failure::NotSent { cause: "they did not come in time".to_owned(), passing: true }),
        };
        let ended = answer.as_ref().map_or_else(|failure| verdict(call, failure.clone()).result(), |_| "ok");
        self.shared.calls.count(call.operation.service.prefix(), call.operation.name, ended);
        Ok(answer)
    }

    /// How often this operation has been asked for, however that ended.
    pub fn asked(&self, operation: Operation) -> u64 {
        let is_it = |[service, name, _]: &[&str; 3]| *service == operation.service.prefix() && *name == operation.name;
        self.shared.calls.counts().filter(|(names, _)| is_it(names)).map(|(_, count)| count).sum()
    }
}

/// Told by the SDK when a request is about to leave; until then nobody can have received it.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicBool>);

impl Sent {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Release);
        Ok(())
    }
}

fn failure<E>(error: &SdkError<E>, sent: bool) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(refused) => Failure::Answer(answer(refused.err(), refused.raw())),
        _ if !sent => Failure::NotSent { cause: chain(error), passing: is_passing(error) },
        _ if never_connected(error) => Failure::NoConnection(chain(error)),
        _ => Failure::NoAnswer(chain(error)),
    }
}

fn answer(error: &impl ProvideErrorMetadata, raw: &HttpResponse) -> Answer {
    let status = raw.status().as_u16();
    let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
    let body = raw.body().bytes().map(String::from_utf8_lossy).unwrap_or_default();
    match (code, older_form(&body)) {
        ("", Some(messages)) => Answer { status, code: "InvalidChangeBatch".to_owned(), messages },
        ("InvalidChangeBatch", _) => Answer { status, code: code.to_owned(), messages: split(message) },
        (code, _) => {
            let messages = Some(message.to_owned()).filter(|message| !message.is_empty()).into_iter().collect();
            Answer { status, code: code.to_owned(), messages }
        }
    }
}

/// `<InvalidChangeBatch><Messages><Message>..`: documented, and not read by the SDK.
fn older_form(body: &str) -> Option<Vec<String>> {
    let (_, inner) = body.split_once("<InvalidChangeBatch")?;
    let messages = inner.split("<Message>").skip(1).filter_map(|rest| Some(rest.split_once("</Message>")?.0));
    let unescape = |text: &str| ESCAPES.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    Some(messages.map(unescape).collect())
}

/// Whether no connection came about: then nobody has received anything.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    links(error).any(|link| link.downcast_ref::<ConnectError>().is_some_and(ConnectError::is_connect))
}

/// Whether credentials were not to be had for a reason that may be gone the next time: their source did not answer.
fn is_passing(error: &(dyn Error + 'static)) -> bool {
    links(error).any(|link| {
        let text = link.to_string();
        link.is::<io::Error>() || link.is::<ConnectError>() || text.contains("timed out") || text.contains("timeout")
    })
}

/// What is said, from the outermost to the cause, each once, without the SDK's words for its own layers.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for link in links(error).map(ToString::to_string) {
        if !LAYERS.contains(&link.as_str()) && !text.contains(&link) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&link);
        }
    }
    // The chain of sources tells each on a line of its own.
    text.replace("Attempted:\n", "Attempted:").replace('\n', ";").replace("  ", " ")
}

fn links<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

const LAYERS: [&str; 4] = ["dispatch failure", "io error", "other", "timeout"];
const ESCAPES: [(&str, &str); 5] = [("&apos;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_form_of_a_refused_batch_is_read() {
        let body = "<?xml version=\"1.0\"?><InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Messages>\
                    <Message>Tried to create [name=&apos;a&apos;] &amp;lt;</Message><Message>two</Message></Messages></InvalidChangeBatch>";
        assert_eq!(older_form(body), Some(vec!["Tried to create [name='a'] &lt;".to_owned(), "two".to_owned()]));
        assert_eq!(older_form("<ErrorResponse><Error><Code>InvalidInput</Code></Error></ErrorResponse>"), None);
    }
}
