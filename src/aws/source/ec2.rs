//! EC2's instances: found by their tags, or looked up for those who know only their ids.

use std::collections::BTreeMap;
use std::net::IpAddr;

use roxmltree::Node;
use tokio::time::Instant;

use super::Roll;
use crate::aws::Account;
use crate::aws::call::{Call, DESCRIBE_INSTANCES, Subject};
use crate::aws::error::CallError;
use crate::aws::query::Form;
use crate::aws::xml::{Odd, child, items, needed, text_of};
use crate::config::Ec2Instances;

/// An instance, as far as it can be an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: String,
    /// `running`, `pending`, `stopped` and so on.
    state: String,
    pub address: Option<IpAddr>,
    tags: BTreeMap<String, String>,
}

impl Instance {
    /// Proposes it at this port, or says why not.
    pub fn enter(&self, roll: &mut Roll, port: u16) {
        match self.address {
            _ if self.state != "running" => roll.leave_out(&self.id, &format!("is {}", self.state)),
            Some(address) => roll.propose(&self.id, address, port),
            None => roll.leave_out(&self.id, "has no private address"),
        }
    }
}

/// Those that run and carry all of the tags.
pub async fn ask(account: &Account, deadline: Instant, of: &Ec2Instances) -> Result<Roll, CallError> {
    let tags: Vec<_> = of.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let subject = Subject { kind: "instances tagged", name: &tags.join(" and "), key: "tags" };
    let by_tag = of.tags.iter().map(|(key, value)| (format!("tag:{key}"), vec![literal(value)]));
    // A terminated instance is listed for an hour more, and tells nobody anything.
    let by_state = ("instance-state-name".to_owned(), STATES.map(str::to_owned).to_vec());
    let filters: Vec<_> = by_tag.chain([by_state]).collect();
    let mut roll = Roll::default();
    for instance in list(account, deadline, subject, &filters).await? {
        // Compatible services have been seen to skip filters that they do not know.
        if of.tags.iter().all(|(key, value)| instance.tags.get(key) == Some(value)) {
            instance.enter(&mut roll, of.port);
        } else {
            roll.leave_out(&instance.id, "does not carry the tags");
        }
    }
    Ok(roll)
}

/// The instances of these ids, by id. Asked by filter: one that is gone is left out, instead of failing the others.
pub async fn look_up(
    account: &Account,
    deadline: Instant,
    subject: Subject<'_>,
    ids: &[&str],
) -> Result<BTreeMap<String, Instance>, CallError> {
    let mut found = BTreeMap::new();
    for ids in ids.chunks(MOST_VALUES) {
        let filter = ("instance-id".to_owned(), ids.iter().map(|id| (*id).to_owned()).collect());
        let instances = list(account, deadline, subject, &[filter]).await?;
        found.extend(instances.into_iter().map(|instance| (instance.id.clone(), instance)));
    }
    Ok(found)
}

/// Every page of what passes these filters.
async fn list(
    account: &Account,
    deadline: Instant,
    subject: Subject<'_>,
    filters: &[(String, Vec<String>)],
) -> Result<Vec<Instance>, CallError> {
    let call = Call { operation: DESCRIBE_INSTANCES, subject };
    let form =
        filters.iter().zip(1..).fold(Form::default().with("MaxResults", PAGE), |form, ((name, values), filter)| {
            let form = form.with(format!("Filter.{filter}.Name"), name);
            let values = values.iter().zip(1..);
            values.fold(form, |form, (value, number)| form.with(format!("Filter.{filter}.Value.{number}"), value))
        });
    let (mut found, mut from) = (Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let form = from.iter().fold(form.clone(), |form, token: &String| form.with("NextToken", token));
        let (instances, next) = account.query(call, deadline, form, page).await?;
        found.extend(instances);
        match next {
            None => return Ok(found),
            next => from = next,
        }
    }
    Err(CallError::Unreachable(format!(
        "{DESCRIBE_INSTANCES}: the list does not end: {MOST_PAGES} pages and still more"
    )))
}

/// The instances of one page, and where the next begins, if there is one.
fn page(answer: Node) -> Result<(Vec<Instance>, Option<String>), Odd> {
    let reserved = items(answer, "reservationSet").flat_map(|reservation| items(reservation, "instancesSet"));
    let next = text_of(answer, "nextToken").map(str::to_owned);
    Ok((reserved.map(instance).collect::<Result<_, _>>()?, next))
}

fn instance(node: Node) -> Result<Instance, Odd> {
    let state = child(node, "instanceState").ok_or("an instance of the answer has no state")?;
    let tag = |tag| Some((text_of(tag, "key")?.to_owned(), text_of(tag, "value").unwrap_or_default().to_owned()));
    Ok(Instance {
        id: needed(node, "instanceId")?.to_owned(),
        state: needed(state, "name")?.to_owned(),
        address: address(node),
        tags: items(node, "tagSet").filter_map(tag).collect(),
    })
}

/// The one that the instance's first network interface was made with, however many it has. Without an IPv4 address at all it
/// is in a subnet of IPv6 alone, and its first IPv6 address is as private as its subnet.
fn address(node: Node) -> Option<IpAddr> {
    let is_first = |interface: &Node| {
        child(*interface, "attachment").is_some_and(|attachment| text_of(attachment, "deviceIndex") == Some("0"))
    };
    let v6 = |interface| items(interface, "ipv6AddressesSet").find_map(|address| text_of(address, "ipv6Address"));
    let first = || items(node, "networkInterfaceSet").find(is_first).and_then(v6);
    let text = text_of(node, "privateIpAddress").or_else(|| text_of(node, "ipv6Address")).or_else(first);
    text?.parse().ok()
}

/// Filters match patterns: what is meant is the value itself.
fn literal(value: &str) -> String {
    value.chars().flat_map(|c| matches!(c, '*' | '?' | '\\').then_some('\\').into_iter().chain([c])).collect()
}

/// The most that EC2 lists at once.
const PAGE: &str = "1000";
/// Far more instances than a pool can have.
const MOST_PAGES: usize = 20;
/// The most that one filter takes.
const MOST_VALUES: usize = 200;
const STATES: [&str; 5] = ["pending", "running", "shutting-down", "stopping", "stopped"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::xml::read;

    fn instances(items: &str) -> Result<Vec<Instance>, Odd> {
        let text = format!(
            "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item>\
             <instancesSet>{items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
        );
        read(&text, "DescribeInstancesResponse", page).map(|(instances, _)| instances)
    }

    fn running(rest: &str) -> Instance {
        let text = format!(
            "<item><instanceId>i-1</instanceId><instanceState><name>running</name></instanceState>{rest}</item>"
        );
        instances(&text).unwrap().remove(0)
    }

    #[test]
    fn an_instance_is_where_its_first_interface_is() {
        let interface = |index: u8, inside: &str| {
            format!("<item>{inside}<attachment><deviceIndex>{index}</deviceIndex></attachment></item>")
        };
        let v6 =
            |address| format!("<ipv6AddressesSet><item><ipv6Address>{address}</ipv6Address></item></ipv6AddressesSet>");
        let several = format!(
            "<privateIpAddress>10.0.0.5</privateIpAddress><networkInterfaceSet>{}{}</networkInterfaceSet>",
            interface(1, "<privateIpAddress>10.9.0.5</privateIpAddress>"),
            interface(0, "<privateIpAddress>10.0.0.5</privateIpAddress>")
        );
        let only_v6 = format!(
            "<networkInterfaceSet>{}{}</networkInterfaceSet>",
            interface(1, &v6("2001:db8::9")),
            interface(0, &v6("2001:db8::1"))
        );
        for (inside, expected) in [
            ("", None),
            ("<privateIpAddress/>", None),
            ("<privateIpAddress>10.0.0.300</privateIpAddress>", None),
            (several.as_str(), Some("10.0.0.5")),
            (only_v6.as_str(), Some("2001:db8::1")),
            ("<ipv6Address>2001:db8::2</ipv6Address>", Some("2001:db8::2")),
        ] {
            assert_eq!(running(inside).address, expected.map(|text| text.parse().unwrap()), "{inside}");
        }
    }

    #[test]
    fn what_cannot_be_an_endpoint_says_why() {
        let with = |state: &str, inside: &str| Instance { state: state.into(), ..running(inside) };
        let here = "<privateIpAddress>10.0.0.5</privateIpAddress>";
        for (instance, expected) in [
            (with("running", here), None),
            (with("pending", here), Some("i-1 is pending")),
            (with("stopped", ""), Some("i-1 is stopped")),
            (with("running", ""), Some("i-1 has no private address")),
        ] {
            let mut roll = Roll::default();
            instance.enter(&mut roll, 80);
            assert_eq!(roll.left_out.first().map(String::as_str), expected);
            assert_eq!(roll.found.len(), usize::from(expected.is_none()));
        }
    }

    #[test]
    fn half_an_instance_is_no_answer() {
        for item in [
            "<item><instanceState><name>running</name></instanceState></item>",
            "<item><instanceId>i-1</instanceId></item>",
        ] {
            assert!(instances(item).is_err(), "{item}");
        }
        assert_eq!(instances(""), Ok(vec![]));
    }

    #[test]
    fn a_tag_is_looked_for_as_it_is_written() {
        for (value, filter) in [("green", "green"), ("a*b?", "a\\*b\\?"), ("a\\b", "a\\\\b"), ("", ""), ("ä ü", "ä ü")]
        {
            assert_eq!(literal(value), filter);
        }
    }
}
