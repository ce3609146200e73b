//! What every double of a service of Amazon does before it answers: notes who asks what, knows them, counts, and fails on wish.

use std::time::Instant;

use axum::body::Bytes;
use axum::http::HeaderMap;

/// The front of one double, and the record of everything that was asked of it.
pub struct Reception {
    house: Rules,
    asked: Vec<Asked>,
    /// What is answered instead, and how often.
    failures: Vec<(&'static str, usize, Turned)>,
    /// Where the account's limit counts, once it does.
    left: Option<(f64, Instant)>,
    /// The only access key that is known; none: any is.
    access_key: Option<String>,
}

/// How a service names itself in signatures, what it takes, and in which words it turns somebody away.
#[derive(Clone, Copy)]
pub struct Rules {
    pub service: &'static str,
    /// Requests a second of one account, and how many at once after a rest.
    pub rate: f64,
    pub burst: f64,
    /// Status and code.
    pub unsigned: (u16, &'static str),
    pub unknown_key: (u16, &'static str),
    pub denied: (u16, &'static str),
    pub throttled: (u16, &'static str),
}

/// A request that came, signed or not.
#[derive(Clone, Debug)]
pub struct Asked {
    pub operation: &'static str,
    pub user_agent: String,
    /// Of the signature; empty where there is none.
    pub access_key: String,
    pub session_token: Option<String>,
    /// The body as it came.
    pub body: String,
    /// What came of it: `ok`, or the code of the error.
    pub outcome: String,
}

/// Why somebody was sent away before anything was looked at.
#[derive(Clone, Debug)]
pub struct Turned {
    pub status: u16,
    pub code: String,
    pub message: String,
}

impl Reception {
    pub fn new(house: Rules) -> Reception {
        Reception { house, asked: Vec::new(), failures: Vec::new(), left: None, access_key: None }
    }

    /// Whether this may go on to be answered; `note` tells afterwards how that ended.
    pub fn admit(&mut self, asked: &Asked) -> Result<(), Turned> {
        self.authenticate(asked)?;
        self.limit()?;
        self.fail_on_wish(asked.operation)
    }

    pub fn note(&mut self, asked: Asked, outcome: &str) {
        self.asked.push(Asked { outcome: outcome.to_owned(), ..asked });
    }

    pub fn read(&self, operation: &'static str, headers: &HeaderMap, body: &Bytes) -> Asked {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Asked {
            operation,
            user_agent: text("user-agent").unwrap_or_default(),
            access_key: access_key(headers, self.house.service).unwrap_or_default(),
            session_token: text("x-amz-security-token"),
            body: String::from_utf8_lossy(body).into_owned(),
            outcome: "?".to_owned(),
        }
    }

    /// Answers so many requests of this operation (`*`: any) with an error instead.
    pub fn fail(&mut self, operation: &'static str, times: usize, status: u16, code: &str, message: &str) {
        self.failures.push((operation, times, Turned::new((status, code), message)));
    }

    /// As IAM does where no policy allows it, for ever.
    pub fn deny(&mut self, operation: &'static str) {
        let Rules { service, denied: (status, code), .. } = self.house;
        let message = format!(
            "User: arn:aws:iam::123456789012:user/cutover is not authorized to perform: {service}:{operation} because no \
             identity-based policy allows the {service}:{operation} action"
        );
        self.fail(operation, usize::MAX, status, code, &message);
    }

    /// No more failures.
    pub fn mend(&mut self) {
        self.failures.clear();
    }

    /// Counts requests from now on.
    pub fn throttle(&mut self) {
        self.left = Some((self.house.burst, Instant::now()));
    }

    /// Only this access key is known from now on.
    pub fn know_only(&mut self, access_key: &str) {
        self.access_key = Some(access_key.to_owned());
    }

    /// Every request so far.
    pub fn asked(&self) -> &[Asked] {
        &self.asked
    }

    fn authenticate(&self, asked: &Asked) -> Result<(), Turned> {
        if asked.access_key.is_empty() {
            return Err(Turned::new(self.house.unsigned, "Missing Authentication Token"));
        }
        match &self.access_key {
            Some(known) if *known != asked.access_key => {
                Err(Turned::new(self.house.unknown_key, "The security token included in the request is invalid."))
            }
            _ => Ok(()),
        }
    }

    fn limit(&mut self) -> Result<(), Turned> {
        let Some((left, since)) = &mut self.left else { return Ok(()) };
        *left = (*left + since.elapsed().as_secs_f64() * self.house.rate).min(self.house.burst);
        *since = Instant::now();
        if *left < 1.0 {
            return Err(Turned::new(self.house.throttled, "Rate exceeded"));
        }
        *left -= 1.0;
        Ok(())
    }

    fn fail_on_wish(&mut self, operation: &str) -> Result<(), Turned> {
        let applies = |(of, times, _): &&mut (&str, usize, Turned)| (*of == "*" || *of == operation) && *times > 0;
        let Some((_, times, turned)) = self.failures.iter_mut().find(applies) else { return Ok(()) };
        *times -= 1;
        Err(turned.clone())
    }
}

impl Turned {
    fn new((status, code): (u16, &str), message: &str) -> Turned {
        Turned { status, code: code.to_owned(), message: message.to_owned() }
    }
}

/// Of a signature that is there and whole: whether it is right is for Amazon to know.
fn access_key(headers: &HeaderMap, service: &str) -> Option<String> {
    let text = headers.get("authorization")?.to_str().ok()?;
    let rest = text.strip_prefix("AWS4-HMAC-SHA256 Credential=")?;
    let (scope, rest) = rest.split_once(',')?;
    let parts: Vec<&str> = scope.split('/').collect();
    let [key, _day, _region, of, "aws4_request"] = parts[..] else { return None };
    let whole = rest.contains("SignedHeaders=") && rest.contains("Signature=") && headers.contains_key("x-amz-date");
    (whole && of == service).then(|| key.to_owned())
}
