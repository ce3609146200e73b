//! The query protocol, which EC2, Auto Scaling and load balancing speak alike: a signed form asks, XML answers.

use aws_config::{Region, SdkConfig};
use aws_runtime::auth::SigV4OperationSigningConfig;
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::invocation_id::InvocationIdInterceptor;
use aws_runtime::user_agent::{ApiMetadata, UserAgentInterceptor};
use aws_sdk_route53::config::http::{HttpRequest, HttpResponse};
use aws_sdk_route53::config::{Layer, RuntimeComponentsBuilder, StalledStreamProtectionConfig};
use aws_sdk_route53::error::{BoxError, ErrorMetadata, SdkError};
use aws_smithy_runtime::client::orchestrator::operation::Operation as Orchestrated;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{
    AuthSchemeOptionResolverParams, SharedAuthScheme, SharedAuthSchemeOptionResolver,
};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use roxmltree::Node;
use tokio::time::Instant;

use super::Account;
use super::call::{Call, Operation, Service};
use super::error::CallError;
use super::partition::{Variant, endpoint};
use super::request::Sent;
use super::xml::{self, Odd};

/// The fields of a request, in the order in which they are sent.
#[derive(Clone, Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Form {
        self.0.push((name.into(), value.into()));
        self
    }

    fn body(&self, operation: Operation) -> String {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("Action", operation.name).append_pair("Version", version(operation.service));
        body.extend_pairs(&self.0).finish()
    }
}

impl Account {
    /// Asks once, in the service's turn, and reads the answer.
    pub async fn query<T: std::fmt::Debug + Send + Sync + 'static>(
        &self,
        call: Call<'_>,
        deadline: Instant,
        form: Form,
        read: fn(Node) -> Result<T, Odd>,
    ) -> Result<T, CallError> {
        let region = self.region()?;
        let body = form.body(call.operation);
        let send = |sent| send(&self.shared.sdk, call.operation, region, body, sent, read);
        self.ask(call, deadline, send).await
    }
}

/// What the SDK's own clients are made of, put together for one request.
async fn send<T: std::fmt::Debug + Send + Sync + 'static>(
    sdk: &SdkConfig,
    operation: Operation,
    region: &str,
    body: String,
    sent: Sent,
    read: fn(Node) -> Result<T, Odd>,
) -> Result<T, SdkError<ErrorMetadata, HttpResponse>> {
    let operation = Orchestrated::builder()
        .service_name(operation.service.prefix())
        .operation_name(operation.name)
        .endpoint_url(&url(sdk, operation.service, region))
        .no_retry()
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .with_connection_poisoning()
        .interceptor(InvocationIdInterceptor::new())
        .interceptor(UserAgentInterceptor::new())
        .interceptor(sent)
        .runtime_plugin(account(sdk, operation.service, region))
        .serializer(request)
        .deserializer(move |response: &HttpResponse| answer(operation, response, read))
        .build();
    operation.invoke(body).await
}

fn url(sdk: &SdkConfig, service: Service, region: &str) -> String {
    let variant = Variant { fips: sdk.use_fips() == Some(true), dual_stack: sdk.use_dual_stack() == Some(true) };
    sdk.endpoint_url().map_or_else(|| endpoint(service, region, variant), str::to_owned)
}

/// The account's client, clock, deadlines and credentials, with a signature for this service in this region.
fn account(sdk: &SdkConfig, service: Service, region: &str) -> StaticRuntimePlugin {
    let mut config = Layer::new("account");
    config.store_or_unset(sdk.timeout_config().cloned());
    config.store_or_unset(sdk.app_name().cloned());
    config.store_put(ApiMetadata::new(service.prefix(), env!("CARGO_PKG_VERSION")));
    config.store_put(AuthSchemeOptionResolverParams::new(()));
    config.store_put(SigV4OperationSigningConfig {
        region: Some(SigningRegion::from(Region::new(region.to_owned()))),
        name: Some(SigningName::from(service.prefix())),
        ..SigV4OperationSigningConfig::default()
    });
    for program in sdk.framework_metadata() {
        config.store_append(program.clone());
    }
    let schemes = SharedAuthSchemeOptionResolver::new(StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]));
    let mut components = RuntimeComponentsBuilder::new("account")
        .with_http_client(sdk.http_client())
        .with_sleep_impl(sdk.sleep_impl())
        .with_time_source(sdk.time_source())
        .with_identity_cache(sdk.identity_cache())
        .with_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()))
        .with_auth_scheme_option_resolver(Some(schemes));
    if let Some(credentials) = sdk.credentials_provider() {
        components.set_identity_resolver(SCHEME_ID, credentials);
    }
    StaticRuntimePlugin::new().with_config(config.freeze()).with_runtime_components(components)
}

fn request(body: String) -> Result<HttpRequest, BoxError> {
    let request = http::Request::post("/")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(CONTENT_LENGTH, body.len())
        .body(body.into())?;
    Ok(request.try_into()?)
}

fn answer<T>(
    operation: Operation,
    response: &HttpResponse,
    read: fn(Node) -> Result<T, Odd>,
) -> Result<T, OrchestratorError<ErrorMetadata>> {
    let bytes = response.body().bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(bytes);
    if !response.status().is_success() {
        let (code, message) = xml::refusal(&text);
        return Err(OrchestratorError::operation(ErrorMetadata::builder().code(code).message(message).build()));
    }
    xml::read(&text, &format!("{}Response", operation.name), read).map_err(OrchestratorError::other)
}

const fn version(service: Service) -> &'static str {
    match service {
        Service::Ec2 => "2016-11-15",
        Service::AutoScaling => "2011-01-01",
        Service::LoadBalancing => "2015-12-01",
        // They speak other protocols, in clients of their own.
        Service::Route53 | Service::OpsWorks => "",
    }
}
