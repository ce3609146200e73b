//! Why a request to Amazon brought nothing, and what that means for whoever made it.

use super::call::Call;
use super::error::CallError;

/// What happened, as far as it can be known from here.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// Nothing was sent: no credentials, or something that cannot be said at all. Whether that may be so only for now.
    NotSent { cause: String, passing: bool },
    /// No connection came about, so nobody can have received it.
    NoConnection(String),
    /// It may have been received, and no whole answer came.
    NoAnswer(String),
    /// Amazon, or something on the way, answered that it will not.
    Answer(Answer),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    pub status: u16,
    /// Empty where it could not be read: then it was no service of Amazon that answered.
    pub code: String,
    /// One for each thing that is wrong, where there can be several.
    pub messages: Vec<String>,
}

impl Answer {
    fn says(&self) -> String {
        let text = self.messages.join("; ");
        match (self.code.as_str(), text.as_str()) {
            ("", "") => format!("status {}", self.status),
            ("", text) => format!("status {}: {text}", self.status),
            (code, "") => code.to_owned(),
            (code, text) => format!("{code}: {text}"),
        }
    }
}

/// What the caller has to know. Nothing that may have been done is ever called anything but unknown or a conflict.
pub fn verdict(call: Call, failure: Failure) -> CallError {
    let Call { operation, subject } = call;
    match failure {
        Failure::NotSent { cause, passing: true } => CallError::Unreachable(format!(
            "no AWS credentials can be had now: {cause}; if that stays so, {NO_CREDENTIALS}"
        )),
        Failure::NotSent { cause, passing: false } => {
            CallError::Refused(format!("no AWS credentials: {cause}; {NO_CREDENTIALS}"))
        }
        Failure::NoConnection(cause) => CallError::Unreachable(format!("{operation}: AWS cannot be reached: {cause}")),
        Failure::NoAnswer(cause) if operation.changes => CallError::Unknown(format!("{operation}: {cause}")),
        Failure::NoAnswer(cause) => CallError::Unreachable(format!("{operation}: no answer: {cause}")),
        Failure::Answer(answer) => match kind(&answer) {
            Kind::Conflict => CallError::Conflict(answer.messages),
            Kind::Busy => CallError::Busy(format!("{operation}: {}", answer.says())),
            Kind::Broken if operation.changes => CallError::Unknown(format!("{operation}: {}", answer.says())),
            Kind::Broken => CallError::Unreachable(format!("{operation}: {}", answer.says())),
            Kind::Denied => CallError::Refused(format!(
                "AWS denies {operation} on {subject} ({}); allow it, `cutover check --policy` prints the policy",
                answer.says()
            )),
            Kind::Credentials(remedy) => CallError::Refused(format!("{operation}: {}; {remedy}", answer.says())),
            Kind::Missing => missing(call, &answer.says()),
            Kind::Misplaced => CallError::Refused(format!(
                "{subject} cannot have these records ({}); correct `{}`, or `name` and `type` of the record",
                answer.says(),
                subject.key
            )),
            Kind::Input => CallError::Refused(format!("{operation} on {subject}: {}", answer.says())),
        },
    }
}

/// There is no such thing, as far as whoever answered can see.
pub fn missing(Call { operation, subject }: Call, says: &str) -> CallError {
    let (within, region) = if operation.service.is_regional() { (" and this region", ", `region`") } else { ("", "") };
    CallError::Refused(format!(
        "there is no {subject} in the account of these credentials{within} ({says}); correct `{}`{region} in the config, or \
         use credentials of the account that has it",
        subject.key
    ))
}

enum Kind {
    Conflict,
    Busy,
    Denied,
    Credentials(&'static str),
    /// What was asked about does not exist, or not for these credentials.
    Missing,
    /// A record that has no place in the zone, whatever else stands there.
    Misplaced,
    Input,
    /// It did not work, and nothing says that it was not done.
    Broken,
}

/// By the code, since Route 53 sends its throttling with status 400.
fn kind(answer: &Answer) -> Kind {
    match answer.code.as_str() {
        "InvalidChangeBatch" if answer.messages.iter().any(|says| NEVER.iter().any(|never| says.contains(never))) => {
            Kind::Misplaced
        }
        "InvalidChangeBatch" => Kind::Conflict,
        // A role that was made just now: the same request works a little later.
        "ValidationException" if answer.messages.iter().any(|says| says.contains("not yet propagated")) => Kind::Busy,
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestThrottled"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "PriorRequestNotComplete"
        | "ScalingActivityInProgress"
        | "ResourceContention"
        | "ServiceUnavailable"
        | "SlowDown" => Kind::Busy,
        "AccessDenied" | "AccessDeniedException" | "NotAuthorizedException" | "UnauthorizedOperation" => Kind::Denied,
        "InvalidClientTokenId" | "UnrecognizedClientException" | "AuthFailure" => Kind::Credentials(UNKNOWN_KEY),
        "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "InvalidSignatureException"
        | "IncompleteSignatureException" => Kind::Credentials(WRONG_SECRET),
        "RequestExpired" | "RequestTimeTooSkewed" => Kind::Credentials(WRONG_CLOCK),
        "ExpiredToken" | "ExpiredTokenException" => Kind::Credentials(EXPIRED),
        "MissingAuthenticationToken" | "MissingAuthenticationTokenException" | "OptInRequired" => {
            Kind::Credentials(NO_CREDENTIALS)
        }
        "NoSuchHostedZone" | "TargetGroupNotFound" | "ResourceNotFoundException" => Kind::Missing,
        _ if answer.status >= 500 || answer.status < 400 => Kind::Broken,
        _ => Kind::Input,
    }
}

/// `[a, b]`, as Route 53 writes several messages into one.
pub fn split(message: &str) -> Vec<String> {
    let inner = message.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(message);
    let (mut parts, mut rest) = (Vec::new(), inner);
    // Values within a message have commas too; only these words begin one.
    while let Some(at) = BEGINNINGS.iter().filter_map(|start| rest.find(start)).min() {
        parts.push(rest[..at].to_owned());
        rest = &rest[at + 2..];
    }
    parts.push(rest.to_owned());
    parts.retain(|part| !part.is_empty());
    parts
}

const BEGINNINGS: [&str; 5] = [", Tried to ", ", RRSet ", ", RRSets ", ", Invalid ", ", The "];
const NEVER: [&str; 2] = [" is not permitted in zone ", " is not permitted at apex in zone "];
const NO_CREDENTIALS: &str = "give the proxy AWS credentials: an instance or task role, AWS_ACCESS_KEY_ID and \
                              AWS_SECRET_ACCESS_KEY, or `credentials_file` in `[aws]`";
const UNKNOWN_KEY: &str =
    "AWS does not know this access key: it was deleted, deactivated, or belongs to another partition";
const WRONG_SECRET: &str = "the secret access key does not belong to the access key: correct it";
const WRONG_CLOCK: &str = "AWS finds this machine's clock wrong: correct it";
const EXPIRED: &str = "the session token has expired: bring new temporary credentials";

#[cfg(test)]
mod tests {
    use super::super::call::{CHANGE_RECORD_SETS, LIST_RECORD_SETS, Subject};
    use super::super::error::RESULTS;
    use super::*;

    const ZONE: Subject = Subject { kind: "hosted zone", name: "Z1", key: "zone" };
    const READ: Call = Call { operation: LIST_RECORD_SETS, subject: ZONE };
    const WRITE: Call = Call { operation: CHANGE_RECORD_SETS, subject: ZONE };

    fn answer(status: u16, code: &str) -> Failure {
        Failure::Answer(Answer { status, code: code.into(), messages: vec!["because".into()] })
    }

    #[test]
    fn every_failure_has_one_meaning_for_reads_and_one_for_changes() {
        let not_sent = |passing| Failure::NotSent { cause: "none".into(), passing };
        let table = [
            (not_sent(false), "refused", "refused"),
            (not_sent(true), "unreachable", "unreachable"),
            (Failure::NoConnection("refused".into()), "unreachable", "unreachable"),
            (Failure::NoAnswer("reset".into()), "unreachable", "unknown"),
            (answer(400, "InvalidChangeBatch"), "conflict", "conflict"),
            (answer(400, "Throttling"), "busy", "busy"),
            (answer(400, "PriorRequestNotComplete"), "busy", "busy"),
            (answer(400, "ScalingActivityInProgress"), "busy", "busy"),
            (answer(500, "ResourceContention"), "busy", "busy"),
            (answer(503, "ServiceUnavailable"), "busy", "busy"),
            (answer(503, "SlowDown"), "busy", "busy"),
            (answer(403, "AccessDenied"), "refused", "refused"),
            (answer(403, "InvalidClientTokenId"), "refused", "refused"),
            (answer(403, "SignatureDoesNotMatch"), "refused", "refused"),
            (answer(403, "ExpiredToken"), "refused", "refused"),
            (answer(404, "NoSuchHostedZone"), "refused", "refused"),
            (answer(400, "TargetGroupNotFound"), "refused", "refused"),
            (answer(400, "ResourceNotFoundException"), "refused", "refused"),
            (answer(400, "InvalidInput"), "refused", "refused"),
            (answer(503, "RequestLimitExceeded"), "busy", "busy"),
            (answer(403, "UnauthorizedOperation"), "refused", "refused"),
            (answer(401, "AuthFailure"), "refused", "refused"),
            (answer(404, ""), "refused", "refused"),
            (answer(500, "InternalFailure"), "unreachable", "unknown"),
            (answer(502, ""), "unreachable", "unknown"),
            (answer(503, ""), "unreachable", "unknown"),
            (answer(200, ""), "unreachable", "unknown"),
        ];
        for (failure, read, write) in table {
            assert_eq!(verdict(READ, failure.clone()).result(), read, "{failure:?}");
            assert_eq!(verdict(WRITE, failure.clone()).result(), write, "{failure:?}");
            assert!(RESULTS.contains(&read) && RESULTS.contains(&write));
        }
    }

    #[test]
    fn what_is_refused_says_what_to_do() {
        for (failure, word) in [
            (answer(403, "AccessDenied"), "AWS denies route53:ListResourceRecordSets on hosted zone Z1"),
            (answer(403, "AccessDenied"), "cutover check --policy"),
            (answer(403, "InvalidClientTokenId"), "does not know this access key"),
            (answer(403, "SignatureDoesNotMatch"), "secret access key"),
            (answer(403, "ExpiredToken"), "temporary credentials"),
            (answer(404, "NoSuchHostedZone"), "there is no hosted zone Z1 in the account"),
            (answer(404, "NoSuchHostedZone"), "correct `zone`"),
            (Failure::NotSent { cause: "no providers".into(), passing: false }, "credentials_file"),
        ] {
            let text = verdict(READ, failure).to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn several_messages_in_one_are_taken_apart() {
        let first = "Tried to create resource record set [name='a.test.', type='A'] but it already exists";
        let second = "Tried to delete resource record set [name='b.test.', type='A'] but it was not found";
        assert_eq!(split(&format!("[{first}, {second}]")), [first, second]);
        assert_eq!(split(&format!("[{first}]")), [first]);
        assert_eq!(split(first), [first]);
        assert_eq!(split("[]"), Vec::<String>::new());
    }
}
