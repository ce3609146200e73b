//! Emulators of AWS written by others, each a process of its own on a free port of loopback, ended with the story.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Client, Process, body, eventually};

/// Dropping it kills it, also when the story has failed.
pub struct Emulator {
    pub address: SocketAddr,
    process: Process,
    _home: TempDir,
}

/// Which one; `tests/run` installs them and says where they are.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `CUTOVER_MINISTACK`
    MiniStack,
    /// `CUTOVER_MOTO`
    Moto,
    /// `CUTOVER_OPSWORKS_MOTO`: the last that knows OpsWorks.
    OpsWorksMoto,
}

impl Kind {
    fn program(self) -> PathBuf {
        let name = match self {
            Kind::MiniStack => "CUTOVER_MINISTACK",
            Kind::Moto => "CUTOVER_MOTO",
            Kind::OpsWorksMoto => "CUTOVER_OPSWORKS_MOTO",
        };
        let path = std::env::var_os(name);
        path.unwrap_or_else(|| panic!("{name} does not name a program: `tests/run` installs it and sets this")).into()
    }

    fn command(self, address: SocketAddr) -> Command {
        let mut command = Command::new(self.program());
        match self {
            Kind::MiniStack => command
                .env("BIND_HOST", address.ip().to_string())
                .env("GATEWAY_PORT", address.port().to_string())
                .env("SERVICES", "route53,ec2,elbv2,autoscaling,sts"),
            Kind::Moto | Kind::OpsWorksMoto => {
                command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()])
            }
        };
        command
    }
}

impl Emulator {
    pub async fn start(kind: Kind) -> Emulator {
        for _ in 0..3 {
            // Somebody else may take the port in between: then the emulator ends, and another is tried.
            let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
            let home = TempDir::new().unwrap();
            let mut command = kind.command(address);
            for (name, value) in ENVIRONMENT {
                command.env(name, value);
            }
            command.current_dir(home.path()).env("HOME", home.path()).env("TMPDIR", home.path()).stdin(Stdio::null());
            let process = Process::run(command);
            let up = || async { !process.is_running() || TcpStream::connect(address).await.is_ok() };
            assert!(eventually(START, up).await, "no answer:\n{}{}", process.stdout(), process.stderr());
            if process.is_running() {
                return Emulator { address, process, _home: home };
            }
            eprintln!("{kind:?} ended at once:\n{}{}", process.stdout(), process.stderr());
        }
        panic!("{kind:?} does not start");
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new hosted zone: its id.
    pub async fn zone(&self, name: &str, reference: &str) -> String {
        let request = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{name}</Name>\
             <CallerReference>{reference}</CallerReference></CreateHostedZoneRequest>"
        );
        let text = self.send("route53", "/2013-04-01/hostedzone", &[("content-type", "text/xml")], request).await;
        let id = text.split_once("<Id>/hostedzone/").and_then(|(_, rest)| rest.split_once("</Id>"));
        id.unwrap_or_else(|| panic!("{text}\n{}", self.process.stderr())).0.to_owned()
    }

    /// One request of the query protocol, with its `Action` and all: what is answered.
    pub async fn query(&self, service: &str, fields: &[(&str, &str)]) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        if service == "ec2" {
            form.append_pair("Version", "2016-11-15");
        }
        self.send(service, "/", &[("content-type", "application/x-www-form-urlencoded")], form.finish()).await
    }

    /// One request to OpsWorks: what is answered.
    pub async fn opsworks(&self, operation: &str, input: Value) -> Value {
        let target = format!("OpsWorks_20130218.{operation}");
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let text = self.send("opsworks", "/", &headers, input.to_string()).await;
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    async fn send(&self, service: &str, path: &str, headers: &[(&str, &str)], text: String) -> String {
        let signed = SIGNED.replace("SERVICE", service);
        let mut request = Request::post(path).header("x-amz-date", "20261124T000000Z").header("authorization", signed);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let host = format!("{service}.us-east-1.amazonaws.com");
        let request = request.body(body::full(text)).unwrap();
        let answer = Client::http1(self.address).await.host(&host).send(request).await;
        assert_eq!(answer.status / 100, 2, "{}\n{}", answer.text(), self.process.stderr());
        answer.text().to_owned()
    }
}

/// Python programs take their time on a busy machine.
const START: Duration = Duration::from_secs(60);
const ENVIRONMENT: [(&str, &str); 4] = [
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_ACCESS_KEY_ID", "testing"),
    ("AWS_SECRET_ACCESS_KEY", "testing"),
];
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=testing/20261124/us-east-1/SERVICE/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0";
