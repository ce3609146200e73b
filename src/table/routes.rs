//! Which service a request is for: its host exactly, else the longest wildcard, then the longest path.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::config;
use crate::names::{HostPattern, PathPrefix};

/// The look-up, built once for each table. A service is its place in the config's list.
pub struct Routes {
    exact: HashMap<String, Paths, RandomState>,
    below: HashMap<String, Paths, RandomState>,
    rest: Paths,
}

/// The services behind one host, longest path first.
type Paths = Vec<(PathPrefix, usize)>;

impl Routes {
    pub fn new(services: &[config::Service]) -> Routes {
        let mut routes = Routes { exact: HashMap::default(), below: HashMap::default(), rest: Paths::new() };
        for (place, service) in services.iter().enumerate() {
            let path = || (service.path.clone(), place);
            for host in &service.hosts {
                match host {
                    HostPattern::Exact(name) => routes.exact.entry(name.clone()).or_default().push(path()),
                    HostPattern::Below(suffix) => routes.below.entry(suffix.clone()).or_default().push(path()),
                }
            }
            if service.hosts.is_empty() {
                routes.rest.push(path());
            }
        }
        let all = routes.exact.values_mut().chain(routes.below.values_mut()).chain([&mut routes.rest]);
        all.for_each(|paths| paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.as_str().len())));
        routes
    }

    /// The place of the service for `host`, which may be in any case and carry a port, and `path`.
    ///
    /// A host whose services all have other paths falls through to the next wider pattern.
    pub fn find(&self, host: &str, path: &str) -> Option<usize> {
        let mut lower = [0; MAX_HOST];
        let host = plain(host, &mut lower);
        let exact = || host.and_then(|host| longest(self.exact.get(host), path));
        let below = || host.filter(|_| !self.below.is_empty()).and_then(|host| self.find_below(host, path));
        exact().or_else(below).or_else(|| longest(Some(&self.rest), path))
    }

    fn find_below(&self, host: &str, path: &str) -> Option<usize> {
        let mut rest = host;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(found) = longest(self.below.get(suffix), path) {
                return Some(found);
            }
            rest = suffix;
        }
        None
    }
}

fn longest(paths: Option<&Paths>, path: &str) -> Option<usize> {
    paths?.iter().find(|(prefix, _)| prefix.matches(path)).map(|(_, place)| *place)
}

/// The host without its port and its trailing dot, in lower case, without an allocation.
fn plain<'a>(host: &'a str, lower: &'a mut [u8; MAX_HOST]) -> Option<&'a str> {
    let name = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    let lower = lower.get_mut(..name.len())?;
    if !name.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some(name);
    }
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

/// A DNS name has at most 253 characters (RFC 1035, 2.3.4). What is longer is no host of ours, and is not looked up: below each
/// of its dots there could be a wildcard, and to ask for 15,000 of them would keep a worker from everybody else.
const MAX_HOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::PerColor;

    fn service(hosts: &[&str], path: &str) -> config::Service {
        config::Service {
            name: "shop".parse().unwrap(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path: path.parse().unwrap(),
            stacks: PerColor::default(),
            health: config::Health::default(),
            timeouts: config::Timeouts::default(),
            limits: config::Limits::default(),
            cutover: config::CutoverRules::default(),
            stack_rules: config::StackRules::default(),
            dns: None,
        }
    }

    #[test]
    fn the_exact_host_wins_then_the_longest_wildcard_then_the_rest_and_each_by_its_longest_path() {
        let routes = Routes::new(&[
            service(&["shop.test"], "/"),
            service(&["shop.test"], "/api"),
            service(&["*.shop.test", "other.test"], "/"),
            service(&["*.eu.shop.test"], "/"),
            service(&[], "/"),
            service(&["only.test"], "/deep"),
        ]);
        let long = format!("{}shop.test", "a.".repeat(200));
        for (host, path, place) in [
            (&*long, "/", 4),
            ("shop.test", "/", 0),
            ("SHOP.Test:8080", "/x", 0),
            ("shop.test.", "/api/x", 1),
            ("shop.test", "/apix", 0),
            ("a.shop.test", "/", 2),
            ("a.b.shop.test", "/", 2),
            ("a.eu.shop.test", "/", 3),
            ("other.test", "/", 2),
            ("elsewhere.test", "/", 4),
            ("", "/", 4),
            ("[::1]:80", "/", 4),
            ("only.test", "/deep/er", 5),
            ("only.test", "/", 4),
        ] {
            assert_eq!(routes.find(host, path), Some(place), "{host}{path}");
        }
    }

    #[test]
    fn without_a_service_for_the_rest_an_unknown_host_has_none() {
        let routes = Routes::new(&[service(&["shop.test"], "/")]);
        assert_eq!(routes.find("shop.test", "/"), Some(0));
        assert_eq!(routes.find("xshop.test", "/"), None);
        assert_eq!(routes.find("", "/"), None);
        assert_eq!(routes.find(&"A".repeat(10_000), "/"), None);
    }
}
