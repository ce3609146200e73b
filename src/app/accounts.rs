//! The account at Amazon that runs: one for all who ask there, so that its pace is one for all.

use crate::admin::Scene;
use crate::aws::Account;
use crate::config::Aws;

/// It stays the same as long as the config says the same of it.
#[derive(Default)]
pub struct Accounts {
    open: Option<(Aws, Account)>,
}

impl Accounts {
    pub async fn of(&mut self, aws: &Aws, scene: &Scene) -> Account {
        if let Some((known, account)) = &self.open
            && known == aws
        {
            return account.clone();
        }
        let account = Account::open(aws, scene.aws.clone()).await;
        self.open = Some((aws.clone(), account.clone()));
        account
    }
}
