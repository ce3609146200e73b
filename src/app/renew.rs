//! What the config names and a reload reads again, though the config says the same: certificates and the token.

use std::sync::Arc;

use super::reload::blocking;
use crate::admin::{ChangeView, ReloadError, Scene, Token};
use crate::config::{Config, Tls};
use crate::proxy::{Identity, Listener, TlsError};

/// Everything that has become another one.
pub struct Renewals {
    /// Who each listener is to be; nobody where it speaks cleartext.
    identities: Vec<(Arc<Listener>, Option<Arc<Identity>>)>,
    token: Option<Option<Arc<Token>>>,
    /// What is another one although the config says the same.
    pub says: Vec<ChangeView>,
}

impl Renewals {
    /// Reads what both configs name. Listeners that only one of them has are not looked at.
    pub async fn find(from: &Config, to: &Config, scene: &Scene) -> Result<Renewals, ReloadError> {
        let mut listeners = Vec::new();
        for listener in scene.listeners.load().iter().filter(|listener| !listener.is_shut()) {
            let of = |config: &Config| {
                let found = config.listeners.iter().find(|one| one.address == listener.address);
                found.map(|found| found.tls.clone())
            };
            listeners.extend(of(from).zip(of(to)).map(|(old, new)| (listener.clone(), old, new)));
        }
        let path = to.admin.token_file.clone();
        let read = move || {
            let found: Result<Vec<_>, _> =
                listeners.into_iter().map(|(listener, old, new)| renew(listener, old.as_ref(), new.as_ref())).collect();
            Ok::<_, ReloadError>((found?, path.map(|path| Token::read(&path)).transpose()?.map(Arc::new)))
        };
        let (found, token) = blocking(read).await?;
        let mut renewals = Renewals { identities: Vec::new(), token: None, says: Vec::new() };
        for Found { listener, identity, silent } in found.into_iter().flatten() {
            let key = format!("listener.\"{}\".tls.certificates", listener.address);
            renewals.says.extend(silent.then(|| ChangeView::renewed(key, "the files hold others now")));
            renewals.identities.push((listener, identity));
        }
        if *scene.token.load() != token {
            let silent = from.admin.token_file == to.admin.token_file;
            renewals
                .says
                .extend(silent.then(|| ChangeView::renewed("admin.token_file".into(), "the file holds another now")));
            renewals.token = Some(token);
        }
        Ok(renewals)
    }

    /// From the next connection on, and the next order.
    pub fn apply(self, scene: &Scene) {
        self.identities.into_iter().for_each(|(listener, identity)| listener.identify_as(identity));
        if let Some(token) = self.token {
            scene.token.store(token);
        }
    }
}

struct Found {
    listener: Arc<Listener>,
    identity: Option<Arc<Identity>>,
    /// The config says the same as before.
    silent: bool,
}

fn renew(listener: Arc<Listener>, old: Option<&Tls>, new: Option<&Tls>) -> Result<Option<Found>, TlsError> {
    let before = listener.identity();
    let identity = new.map(|tls| Identity::load(tls, before.as_deref())).transpose()?.map(Arc::new);
    let same = match (&before, &identity) {
        (None, None) => true,
        (Some(before), Some(now)) => old == new && before.certificates.are(&now.certificates),
        _ => false,
    };
    Ok((!same).then(|| Found { listener, identity, silent: old == new }))
}
