//! What Amazon is asked, and no AWS type anywhere else: one account, its credentials, its pace, its deadlines.

mod call;
mod check;
mod error;
mod failure;
mod limiter;
mod opsworks;
mod partition;
mod policy;
mod query;
mod records;
mod request;
mod route53;
mod scaling;
mod source;
mod uses;
mod xml;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_route53::config::{FrameworkMetadata, SharedHttpClient};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use tokio::time::Instant;

use self::call::OPERATIONS;
pub use self::check::{On, Outcome, Tried, try_all};
use self::error::CallError;
use self::limiter::Pace;
use self::opsworks::OpsWorks;
pub use self::policy::Policy;
use self::route53::Route53;
use self::scaling::Scaling;
use self::source::AmazonSource;
pub use self::uses::{SourceUse, StackUse, Uses, ZoneUse};
use crate::config::{Aws, DiscoverFrom, opsworks_ended};
use crate::discovery::Source;
use crate::dns::Zone;
use crate::metrics::CallSheet;
use crate::stack;

/// One account's services, as the config reaches them. Everybody who uses it shares its pace.
#[derive(Clone)]
pub struct Account {
    shared: Arc<Shared>,
}

struct Shared {
    sdk: SdkConfig,
    /// As the config, the environment or the profile say, if any does.
    region: Option<String>,
    route53: aws_sdk_route53::Client,
    opsworks: aws_sdk_opsworks::Client,
    pace: Pace,
    calls: Arc<CallSheet>,
    operation: Duration,
}

impl Account {
    /// Asks nobody yet: credentials are got with the first call, and again before they expire.
    pub async fn open(config: &Aws, calls: Arc<CallSheet>) -> Account {
        let region = region(config).region().await;
        let sdk = sdk(config, region.clone()).await;
        let shared = Shared {
            region: region.map(|region| region.to_string()),
            opsworks: aws_sdk_opsworks::Client::new(&sdk),
            route53: aws_sdk_route53::Client::new(&sdk),
            pace: Pace::new(config.requests_per_second),
            calls,
            operation: config.timeouts.operation,
            sdk,
        };
        Account { shared: Arc::new(shared) }
    }

    /// The sheet that an account counts its requests on.
    pub fn sheet() -> CallSheet {
        CallSheet::new(OPERATIONS.iter().map(|it| (it.service.prefix(), it.name)), error::RESULTS)
    }

    /// The hosted zone of this id.
    pub fn zone(&self, id: &str) -> Arc<dyn Zone> {
        Arc::new(Route53::new(self.clone(), id))
    }

    /// Who says which endpoints a color has, where that is somebody at Amazon.
    pub fn source(&self, from: &DiscoverFrom) -> Option<Arc<dyn Source>> {
        let amazon = AmazonSource::new(self.clone(), from)?;
        Some(Arc::new(amazon))
    }

    /// The stacks of OpsWorks; what they clone is run as `service_role`, or as its source is.
    pub fn opsworks(&self, service_role: Option<&str>) -> Arc<dyn stack::Provider> {
        Arc::new(OpsWorks::new(self.clone(), service_role.map(str::to_owned)))
    }

    /// The account's Auto Scaling groups, as stacks whose instances come and go by themselves.
    pub fn scaling(&self) -> Arc<dyn stack::Provider> {
        Arc::new(Scaling::new(self.clone()))
    }

    /// Where a service is asked that each region has for itself. A guess would find other endpoints, or none, and call
    /// that an answer; only behind an `endpoint_url` is it a word in the signature and nothing more.
    fn region(&self) -> Result<&str, CallError> {
        match (&self.shared.region, self.shared.sdk.endpoint_url()) {
            (Some(region), _) => Ok(region),
            (None, Some(_)) => Ok(DEFAULT_REGION),
            (None, None) => Err(CallError::Refused(NO_REGION.to_owned())),
        }
    }

    /// OpsWorks, where there is one to ask.
    fn opsworks_client(&self) -> Result<&aws_sdk_opsworks::Client, CallError> {
        match self.shared.sdk.endpoint_url() {
            Some(_) => Ok(&self.shared.opsworks),
            None => Err(CallError::Refused(opsworks_ended())),
        }
    }

    /// When a call that begins now has to be over.
    fn deadline(&self) -> Instant {
        Instant::now() + self.shared.operation
    }
}

/// The usual chain of sources (environment, profile, web identity, container, IMDSv2), our own TLS, and no repeats: what is
/// repeated, and when, is decided by those who know what a repeat would do.
async fn sdk(config: &Aws, region: Option<Region>) -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(config.timeouts.connect)
        .read_timeout(config.timeouts.attempt)
        .operation_attempt_timeout(config.timeouts.attempt)
        .operation_timeout(config.timeouts.operation)
        .build();
    let (http_client, region) = (http_client(), region.unwrap_or(Region::from_static(DEFAULT_REGION)));
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http_client.clone())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::disabled())
        // The deadlines above are enough, and a second clock would only tell the same failure in other words.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .region(region.clone());
    if let Ok(name) = AppName::new(NAME) {
        loader = loader.app_name(name);
    }
    if let Ok(program) = FrameworkMetadata::new(NAME, Some(env!("CARGO_PKG_VERSION"))) {
        loader = loader.framework_metadata(program);
    }
    if let Some(url) = &config.endpoint_url {
        loader = loader.endpoint_url(url);
    }
    if let Some(profile) = &config.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(file) = &config.credentials_file {
        let around = ProviderConfig::without_region().with_http_client(http_client).with_region(Some(region));
        loader = loader.credentials_provider(credentials_of(file, config.profile.as_deref(), &around));
    }
    loader.load().await
}

/// Never from the instance: a start must not wait for anybody.
fn region(config: &Aws) -> RegionProviderChain {
    let profile = ProfileFileRegionProvider::builder();
    let profile = match &config.profile {
        Some(name) => profile.profile_name(name),
        None => profile,
    };
    RegionProviderChain::first_try(config.region.clone().map(Region::new))
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
}

fn credentials_of(file: &Path, profile: Option<&str>, around: &ProviderConfig) -> ProfileFileCredentialsProvider {
    let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file).build();
    let provider = ProfileFileCredentialsProvider::builder().configure(around).profile_files(files);
    match profile {
        Some(name) => provider.profile_name(name).build(),
        None => provider.build(),
    }
}

/// Over the same aws-lc-rs as the proxy's own TLS; whom it trusts is what the system trusts.
fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https()
}

const NAME: &str = "cutover";
/// For Route 53, which is the same everywhere.
const DEFAULT_REGION: &str = "us-east-1";
const NO_REGION: &str = "no region is configured, and endpoints of another region are others: write `region` under [aws], \
                         set AWS_REGION, or name one in the profile";
