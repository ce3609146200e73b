//! What is wrong with the certificates a config names, all of it, each at the place where the file is named.

use super::certificate::{Certificate, Flaw, Grade, Which};
use crate::config::{CertificateFiles, Config, Finding, Service, Weight, Wrong};
use crate::time::Timestamp;

/// What the config is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To say whether it is right: a certificate that clients refuse is not.
    Check,
    /// To serve with it: then such a certificate is a warning, since a proxy that does not come up after midnight
    /// because of one certificate is worse than one certificate that is refused.
    Serve,
}

/// Reads every certificate of every listener.
pub fn inspect(config: &Config, purpose: Purpose, now: Timestamp) -> Vec<Finding> {
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let pairs = tls.flat_map(|tls| &tls.certificates);
    pairs.flat_map(|files| pair(files, &config.services, purpose, now)).collect()
}

fn pair(files: &CertificateFiles, services: &[Service], purpose: Purpose, now: Timestamp) -> Vec<Finding> {
    let (certificate, flaws) = Certificate::read(files, now);
    let finding = |Flaw { file, grade, wrong }| {
        let at = match file {
            Which::Cert => files.cert.span(),
            Which::Key => files.key.span(),
        };
        let weight = match (grade, purpose) {
            (Grade::Unusable, _) | (Grade::Refused, Purpose::Check) => Weight::Mistake,
            (Grade::Refused, Purpose::Serve) | (Grade::Doubtful, _) => Weight::Warning,
        };
        Finding { at, weight, wrong }
    };
    let idle = certificate.as_ref().and_then(|certificate| for_nobody(certificate, services));
    let idle = idle.map(|wrong| Finding { at: files.cert.span(), weight: Weight::Warning, wrong });
    flaws.into_iter().map(finding).chain(idle).collect()
}

/// A certificate for none of the hosts that are served. Where a service takes every host, nobody can tell.
fn for_nobody(certificate: &Certificate, services: &[Service]) -> Option<Wrong> {
    let mut hosts = services.iter().flat_map(|service| &service.hosts);
    let open = services.is_empty() || services.iter().any(|service| service.hosts.is_empty());
    if open || hosts.any(|hosts| certificate.covers_any(hosts)) {
        return None;
    }
    let names = match &certificate.names[..] {
        [] => "it is for no name at all".to_owned(),
        names => format!("it is for {}", names.join(", ")),
    };
    let message = format!("the certificate in {} covers no host of any service; {names}", certificate.path.display());
    Some(Wrong::new(message, "name the right file, or the hosts it is for under `hosts` of a service"))
}
