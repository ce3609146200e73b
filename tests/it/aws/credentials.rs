//! Credentials come from where every AWS tool finds them, and it is said where they do not come from.

use std::net::Ipv4Addr;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;

use super::check::{Desk, KEYS};
use super::stage::{KEY, SECRET, TOKEN, ZONE};
use crate::harness::{FakeRoute53, PATIENCE};

#[tokio::test]
async fn the_environment_comes_first() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let desk = Desk::new(&fake.url());
    std::fs::create_dir(desk.path(".aws")).unwrap();
    let file = "[default]\naws_access_key_id = AKIAFROMTHEPROFILE00\naws_secret_access_key = x\n";
    std::fs::write(desk.path(".aws/credentials"), file).unwrap();
    desk.check(&["--aws"], &KEYS).await.assert_code(0);
    assert_eq!(fake.asked()[0].access_key, KEY);
    desk.check(&["--aws"], &[]).await.assert_code(0);
    assert_eq!(fake.asked().last().unwrap().access_key, "AKIAFROMTHEPROFILE00");
}

#[tokio::test]
async fn the_instance_is_asked_with_a_token() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let instance = serve(|request| {
        let has_token = request.headers().get("x-aws-ec2-metadata-token").is_some_and(|token| token == "imds");
        match (request.method().as_str(), request.uri().path()) {
            ("PUT", "/latest/api/token") if request.headers().contains_key("x-aws-ec2-metadata-token-ttl-seconds") => {
                ([("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "imds").into_response()
            }
            ("GET", "/latest/meta-data/iam/security-credentials/") if has_token => "cutover-role".into_response(),
            ("GET", "/latest/meta-data/iam/security-credentials/cutover-role") if has_token => {
                let json = serde_json::json!({
                    "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-11-24T00:00:00Z",
                    "AccessKeyId": KEY, "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": "2099-01-01T00:00:00Z",
                });
                json.to_string().into_response()
            }
            _ if !has_token => StatusCode::UNAUTHORIZED.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    })
    .await;
    let env = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance.as_str())];
    Desk::new(&fake.url()).check(&["--aws"], &env).await.assert_code(0);
    let asked = &fake.asked()[0];
    assert_eq!((asked.access_key.as_str(), asked.session_token.as_deref()), (KEY, Some(TOKEN)));
}

#[tokio::test]
async fn a_web_identity_is_exchanged_for_a_role() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let sts = serve(|_| {
        let text = format!(
            "<AssumeRoleWithWebIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
             <AssumeRoleWithWebIdentityResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/cutover/s</Arn>\
             <AssumedRoleId>AROA:s</AssumedRoleId></AssumedRoleUser><Credentials><AccessKeyId>{KEY}</AccessKeyId>\
             <SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}</SessionToken>\
             <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
             </AssumeRoleWithWebIdentityResponse>"
        );
        ([("content-type", "text/xml")], text).into_response()
    })
    .await;
    let desk = Desk::new(&fake.url());
    std::fs::write(desk.path("token"), "a.web.identity").unwrap();
    let token = desk.path("token");
    let env = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.as_str()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/cutover"),
        ("AWS_ENDPOINT_URL_STS", sts.as_str()),
    ];
    desk.check(&["--aws"], &env).await.assert_code(0);
    let asked = &fake.asked()[0];
    assert_eq!((asked.access_key.as_str(), asked.session_token.as_deref()), (KEY, Some(TOKEN)));
}

#[tokio::test]
async fn with_none_it_is_said_where_to_put_them() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let ran = Desk::new(&fake.url()).check(&["--aws", "--json"], &[]).await.assert_code(1);
    let says = ran.json()["aws"][0]["says"].as_str().unwrap().to_owned();
    assert!(says.contains("give the proxy AWS credentials: an instance or task role"), "{says}");
    assert_eq!(fake.asked().len(), 0, "nothing is sent without a signature");
}

/// An instance whose metadata service has hung up is no reason to wait for ever.
#[tokio::test]
async fn a_silent_source_is_waited_for_only_so_long() {
    let fake = FakeRoute53::with_zone(ZONE, "example.com").await;
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let env = [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let desk = Desk::new(&fake.url());
    let ran = desk.check_within(PATIENCE * 2, &["--aws", "--json"], &env).await.assert_code(1);
    let aws = ran.json()["aws"].clone();
    for one in aws.as_array().unwrap().iter().filter(|one| one["outcome"] != "not_tried") {
        let says = one["says"].as_str().unwrap();
        let words = ["no AWS credentials can be had now", "could not communicate with IMDS", "if that stays so, give"];
        assert!(words.iter().all(|word| says.contains(word)) && !says.contains('\n'), "{says}");
    }
    assert_eq!(fake.asked().len(), 0);
}

/// A server that answers each request as told, on loopback, for as long as the story takes: its URL.
async fn serve(answer: impl Fn(Request) -> Response + Clone + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(move |request: Request| std::future::ready(answer(request)));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}
