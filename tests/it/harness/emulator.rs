//! Emulators of AWS written by others, each a process of its own on a free port of loopback, ended with the story.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Request;
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
}

impl Kind {
    fn program(self) -> PathBuf {
        let name = match self {
            Kind::MiniStack => "CUTOVER_MINISTACK",
            Kind::Moto => "CUTOVER_MOTO",
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
                .env("SERVICES", "route53,sts"),
            Kind::Moto => command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]),
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
        let request = Request::post("/2013-04-01/hostedzone")
            .header("content-type", "text/xml")
            .header("x-amz-date", "20261124T000000Z")
            .header("authorization", SIGNED)
            .body(body::full(request))
            .unwrap();
        let answer = Client::http1(self.address).await.host("route53.amazonaws.com").send(request).await;
        let text = answer.text();
        let id = text.split_once("<Id>/hostedzone/").and_then(|(_, rest)| rest.split_once("</Id>"));
        id.unwrap_or_else(|| panic!("{} {text}\n{}", answer.status, self.process.stderr())).0.to_owned()
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
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=testing/20261124/us-east-1/route53/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=0";
