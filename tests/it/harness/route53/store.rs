//! The zones of the fake, the changes under way, and what its name servers have heard of them.

use std::collections::BTreeMap;

use super::answer::{NAMESPACE, Wrong, element};
use super::changes;
use super::set::{Set, normal, place};

#[derive(Default)]
pub struct Store {
    zones: BTreeMap<String, Zone>,
    changes: Vec<Change>,
    /// Polls that a change is PENDING for.
    pub pending_for: usize,
    pub older_form: bool,
    pub list_at_most: Option<usize>,
}

pub struct Zone {
    /// With a dot at its end.
    pub name: String,
    /// In the order of the list.
    pub sets: Vec<Set>,
    /// What each of the four name servers answers from.
    pub served: [Vec<Set>; 4],
}

struct Change {
    id: String,
    zone: String,
    /// The zone after it.
    after: Vec<Set>,
    polls: usize,
}

impl Store {
    pub fn add_zone(&mut self, id: &str, name: &str) {
        let servers: Vec<String> = (0..4).map(server).collect();
        let values: Vec<&str> = servers.iter().map(String::as_str).collect();
        let soa = format!("{} awsdns-hostmaster.amazon.com. 1 7200 900 1209600 86400", servers[0]);
        let sets = vec![Set::new(name, "NS", 172_800, &values), Set::new(name, "SOA", 900, &[&soa])];
        let served = std::array::from_fn(|_| sets.clone());
        self.zones.insert(id.to_owned(), Zone { name: normal(name), sets, served });
    }

    pub fn zone(&self, id: &str) -> Result<&Zone, Wrong> {
        let none = || Wrong::new(404, "NoSuchHostedZone", &format!("No hosted zone found with ID: {id}"));
        self.zones.get(id).ok_or_else(none)
    }

    pub fn put(&mut self, zone: &str, set: Set) {
        self.remove(zone, &set.name.clone(), &set.kind.clone(), set.identifier.clone().as_deref());
        let zone = self.zones.get_mut(zone).unwrap();
        for sets in zone.served.iter_mut().chain([&mut zone.sets]) {
            sets.push(set.clone());
            sets.sort_by_key(Set::place);
        }
    }

    pub fn remove(&mut self, zone: &str, name: &str, kind: &str, identifier: Option<&str>) {
        let (name, zone) = (normal(name), self.zones.get_mut(zone).unwrap());
        for sets in zone.served.iter_mut().chain([&mut zone.sets]) {
            sets.retain(|set| !set.is(&name, kind, identifier));
        }
    }

    pub fn sync(&mut self) {
        for change in &mut self.changes {
            change.polls = 0;
        }
        self.settle();
    }

    pub fn reach(&mut self, zone: &str, server: usize) {
        let zone = self.zones.get_mut(zone).unwrap();
        zone.served[server] = zone.sets.clone();
    }

    pub fn describe(&self, id: &str) -> Result<String, Wrong> {
        let zone = self.zone(id)?;
        let servers: String = (0..4).map(|n| element("NameServer", &server(n))).collect();
        Ok(format!(
            "<GetHostedZoneResponse {NAMESPACE}><HostedZone><Id>/hostedzone/{id}</Id>{}<CallerReference>story\
             </CallerReference><Config><PrivateZone>false</PrivateZone></Config><ResourceRecordSetCount>{}\
             </ResourceRecordSetCount></HostedZone><DelegationSet><NameServers>{servers}</NameServers></DelegationSet>\
             </GetHostedZoneResponse>",
            element("Name", &zone.name),
            zone.sets.len()
        ))
    }

    pub fn list(&self, id: &str, query: &str) -> Result<String, Wrong> {
        let zone = self.zone(id)?;
        let pairs: BTreeMap<String, String> = form(query);
        let get = |key: &str| pairs.get(key).map(String::as_str);
        let most = match get("maxitems").map(str::parse::<usize>) {
            None => 300,
            Some(Ok(most @ 1..)) => most.min(300),
            Some(_) => return Err(Wrong::input("maxitems is no number above 0")),
        };
        let most = self.list_at_most.map_or(most, |limit| most.min(limit));
        if get("type").is_some() && get("name").is_none() || get("identifier").is_some() && get("type").is_none() {
            return Err(Wrong::input("The input is not valid: type needs a name, identifier needs a type"));
        }
        let from = get("name").map(|name| place(name, get("type").unwrap_or(""), get("identifier").unwrap_or("")));
        let from = from.map_or(0, |from| zone.sets.partition_point(|set| set.place() < from));
        let page = &zone.sets[from..];
        let next = page.get(most).map(|next| {
            let identifier = next.identifier.as_ref().map(|it| element("NextRecordIdentifier", it)).unwrap_or_default();
            format!("{}{}{identifier}", element("NextRecordName", &next.name), element("NextRecordType", &next.kind))
        });
        let sets: String = page.iter().take(most).map(Set::xml).collect();
        Ok(format!(
            "<ListResourceRecordSetsResponse {NAMESPACE}><ResourceRecordSets>{sets}</ResourceRecordSets>\
             <IsTruncated>{}</IsTruncated>{}<MaxItems>{most}</MaxItems></ListResourceRecordSetsResponse>",
            next.is_some(),
            next.clone().unwrap_or_default()
        ))
    }

    pub fn change(&mut self, id: &str, body: &[u8]) -> Result<String, Wrong> {
        let zone = self.zone(id)?;
        let after = changes::apply(&zone.name, &zone.sets, body)?;
        let change = Change {
            id: format!("C{:013}", self.changes.len() + 1),
            zone: id.to_owned(),
            after: after.clone(),
            polls: self.pending_for,
        };
        let answer = info("ChangeResourceRecordSetsResponse", &change.id, "PENDING");
        self.zones.get_mut(id).unwrap().sets = after;
        self.changes.push(change);
        Ok(answer)
    }

    pub fn progress(&mut self, id: &str) -> Result<String, Wrong> {
        let none = || Wrong::new(404, "NoSuchChange", &format!("Could not find resource with ID: {id}"));
        let change = self.changes.iter_mut().find(|change| change.id == id).ok_or_else(none)?;
        let status = if change.polls == 0 { "INSYNC" } else { "PENDING" };
        if change.polls != usize::MAX {
            change.polls = change.polls.saturating_sub(1);
        }
        let answer = info("GetChangeResponse", id, status);
        if status == "INSYNC" {
            self.settle();
        }
        Ok(answer)
    }

    /// Name servers hear of changes in their order, each once it is INSYNC, and so are all before it.
    fn settle(&mut self) {
        for (id, zone) in &mut self.zones {
            let own = self.changes.iter().filter(|change| change.zone == *id);
            if let Some(last) = own.take_while(|change| change.polls == 0).last() {
                zone.served.iter_mut().for_each(|served| *served = last.after.clone());
            }
        }
    }
}

fn info(root: &str, id: &str, status: &str) -> String {
    format!(
        "<{root} {NAMESPACE}><ChangeInfo><Id>/change/{id}</Id><Status>{status}</Status>\
         <SubmittedAt>2026-11-24T12:00:00Z</SubmittedAt></ChangeInfo></{root}>"
    )
}

fn server(number: usize) -> String {
    format!("ns-{number}.awsdns-0{number}.test.")
}

fn form(query: &str) -> BTreeMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), decoded(value))).collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (first, _) => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
