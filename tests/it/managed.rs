//! Under a service manager: sockets that it hands over, what it is told and when, and the units we ship.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use crate::harness::{Backend, Ca, Client, Cutover, Process, Service, Settings, within};

/// A socket as a service manager binds it: nobody else can have its address.
fn bound() -> (TcpListener, SocketAddr) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn shop(settings: Settings) -> (Backend, Cutover) {
    let blue = Backend::start("blue").await;
    let proxy = settings.service("shop", |s| s.blue([&blue])).start().await;
    (blue, proxy)
}

/// What it says where it is not expected to begin.
async fn refused(settings: Settings) -> String {
    let settings = settings.service("shop", |s| s.blue([SocketAddr::from((Ipv4Addr::LOCALHOST, 9))]));
    settings.write();
    let (file, workers) = (settings.file(), settings.workers.to_string());
    let args = ["serve", "--config", file.to_str().unwrap(), "--workers", &workers];
    let process = Process::start_managed(&settings.manager, &args);
    process.ended().await.assert_code(1).stderr
}

/// Listening sockets on this port of the loopback address, by the kernel's own list.
fn listening(port: u16) -> usize {
    let list = fs::read_to_string("/proc/net/tcp").unwrap();
    let own = format!("0100007F:{port:04X} 00000000:0000 0A");
    list.lines().filter(|line| line.contains(&own)).count()
}

#[tokio::test]
async fn a_socket_that_is_handed_over_is_served_by_every_worker_and_nothing_is_bound() {
    let (socket, address) = bound();
    let settings = Cutover::with().workers(3).listen_on(address, None).handed(vec![socket.into()], "cutover.socket");
    let (blue, proxy) = shop(settings).await;
    assert_eq!(proxy.address(), address);
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = Client::http1(&proxy).await;
        assert_eq!(client.get("/").await.backend(), Some("blue"));
        clients.push(client);
    }
    assert_eq!((blue.requests(), listening(address.port())), (30, 1));
    assert_eq!(proxy.metrics().await.value("cutover_connections", &[("listener", &address.to_string())]), 30.0);
}

/// The kernel spreads connections over both: one whose socket nobody accepted from would wait for ever.
#[tokio::test]
async fn several_sockets_of_one_address_are_each_some_workers_own() {
    let socket = |address: SocketAddr| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).and_then(|()| socket.listen(64)).unwrap();
        socket
    };
    let first = socket(any_port());
    let address = first.local_addr().unwrap().as_socket().unwrap();
    let sockets = vec![first.into(), socket(address).into()];
    let settings = Cutover::with().workers(3).listen_on(address, None).handed(sockets, "http:http");
    let (blue, proxy) = shop(settings).await;
    for _ in 0..40 {
        assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
    }
    assert_eq!((blue.requests(), listening(address.port())), (40, 2));
}

#[tokio::test]
async fn clients_that_come_while_it_restarts_wait_in_the_socket() {
    let (socket, address) = bound();
    let settings = Cutover::with().listen_on(address, None).handed(vec![socket.into()], "cutover.socket");
    let (_blue, mut proxy) = shop(settings).await;
    proxy.kill9().await;
    let mut waiting = Client::http1(address).await;
    let (answer, ()) = tokio::join!(waiting.get("/"), proxy.restart());
    assert_eq!(answer.backend(), Some("blue"));
}

#[tokio::test]
async fn a_socket_finds_its_listener_by_address_and_else_by_name() {
    let ((one, first), (other, second)) = (bound(), bound());
    // Both have the name; one of them also has the address of another listener.
    let ca = Ca::new();
    let settings = Cutover::with().listen_on(any_port(), Some("web")).tls(&ca, &["shop.test"]);
    let mut settings = settings.handed(vec![one.into(), other.into()], "web:web");
    settings.listen[1].address = first;
    let blue = Backend::start("blue").await;
    let settings = settings.service("shop", |s| s.blue([&blue]));
    settings.write();
    let asked = fs::read_to_string(settings.file()).unwrap();
    let proxy = settings.start().await;
    assert_eq!((proxy.address(), proxy.tls_address()), (second, first));
    // Asked for the same again, that is what it has.
    fs::write(proxy.config_file(), asked).unwrap();
    let (_, answer) = proxy.api("POST", "/v1/reload", serde_json::Value::Null).await;
    assert_eq!(answer["outcome"], "unchanged", "{answer}");
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
    assert_eq!(Client::tls(first, &ca, "shop.test", &["h2"]).await.get("/").await.status, 200);
}

#[tokio::test]
async fn the_admin_socket_may_be_handed_over_too_and_stays_when_the_proxy_ends() {
    let (socket, address) = bound();
    let settings = Cutover::with().listen_on(address, None);
    let path = settings.socket();
    let admin = UnixListener::bind(&path).unwrap();
    let settings = settings.handed(vec![socket.into(), admin.into()], "http:admin");
    let (_blue, mut proxy) = shop(settings).await;
    let status = proxy.run(&["status", "--json"]).await.assert_code(0).json();
    assert_eq!(status["admin"]["socket"], path.to_str().unwrap());
    proxy.terminate().await.assert_code(0);
    assert!(path.exists(), "it is not the proxy's to take away");
    proxy.restart().await;
}

#[tokio::test]
async fn sockets_that_fit_nothing_stop_the_start_and_are_named() {
    let ((stray, stray_address), (connected, _)) = (bound(), bound());
    let said = refused(Cutover::with().handed(vec![stray.into()], "stray")).await;
    assert!(said.contains(&format!("{stray_address} (`stray`)")) && said.contains("[[listener]]"), "{said}");

    let client = TcpStream::connect(connected.local_addr().unwrap()).unwrap();
    let said = refused(Cutover::with().handed(vec![client.into()], "conn")).await;
    assert!(said.contains("descriptor 3 (`conn`)") && said.contains("Accept=no"), "{said}");

    let sockets = vec![bound().0.into(), bound().0.into()];
    let said = refused(Cutover::with().workers(1).listen_on(any_port(), Some("web")).handed(sockets, "web:web")).await;
    assert!(said.contains("2 sockets were handed over") && said.contains("--workers 2"), "{said}");

    let file = tempfile::tempfile().unwrap();
    let said = refused(Cutover::with().handed(vec![file.into()], "file")).await;
    assert!(said.contains("descriptor 3 (`file`)") && said.contains("not a socket"), "{said}");
}

#[tokio::test]
async fn sockets_for_somebody_else_are_left_alone() {
    let settings = Cutover::with().env("LISTEN_FDS", 1).env("LISTEN_PID", 1).env("LISTEN_FDNAMES", "other");
    let (_blue, proxy) = shop(settings).await;
    assert_eq!(Client::http1(&proxy).await.get("/").await.status, 200);
}

/// What a manager hears, read at once: its socket holds only a few words, and whoever finds it full waits.
struct Ear(mpsc::UnboundedReceiver<String>);

impl Ear {
    /// The manager, and the settings of a proxy that tells it things.
    fn listen() -> (Ear, Settings) {
        let settings = Cutover::with();
        let path = settings.folder().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let (heard, words) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(length) = manager.recv(&mut bytes).await {
                let word = String::from_utf8(bytes[..length].to_vec()).unwrap();
                if heard.send(word).is_err() {
                    return;
                }
            }
        });
        (Ear(words), settings.env("NOTIFY_SOCKET", path.display()))
    }

    async fn next(&mut self) -> String {
        within("a word to the service manager", self.0.recv()).await.unwrap()
    }

    /// The next word that is no beat.
    async fn news(&mut self) -> String {
        loop {
            match self.next().await {
                beat if beat == BEAT => {}
                news => return news,
            }
        }
    }
}

const BEAT: &str = "WATCHDOG=1\n";

#[tokio::test]
async fn the_manager_hears_that_it_serves_who_is_live_that_it_lives_and_that_it_ends() {
    let (mut manager, settings) = Ear::listen();
    let (blue, green) = (Backend::start("blue").await, Backend::start("green").await);
    let settings = settings.env("WATCHDOG_USEC", 400_000);
    let settings = settings.service("shop", |s| s.hosts(&["shop.test"]).blue([&blue]).green([&green]));
    let mut proxy = settings.service("blog", |s| s.hosts(&["blog.test"]).blue([&blue])).start().await;
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue, blog from blue\n");
    assert_eq!(manager.next().await, BEAT);
    let (code, said) = proxy.api("POST", "/v1/services/shop/switch", json!({ "to": "green" })).await;
    assert_eq!(code, 200, "{said}");
    assert_eq!(manager.news().await, "STATUS=serving shop from green, blog from blue\n");
    assert_eq!(manager.next().await, BEAT);

    // It ends with a request inside, and is alive as long as that takes.
    let mut client = Client::http1(&proxy).await;
    let (answer, ()) = tokio::join!(client.get("/slow"), async {
        green.waiting(1).await;
        proxy.ask_to_end();
        let said = manager.news().await;
        assert!(said.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="), "{said}");
        for _ in 0..3 {
            assert_eq!(manager.next().await, BEAT);
        }
        green.release();
    });
    assert_eq!(answer.status, 200);
    proxy.ended().await.assert_code(0);
    proxy.restart().await;
    assert_eq!(manager.news().await, "READY=1\nSTATUS=serving shop from green, blog from blue\n");
}

#[tokio::test]
async fn the_manager_hears_how_long_a_warm_up_may_keep_clients_waiting_and_is_told_ready_behind_it() {
    let (mut manager, settings) = Ear::listen();
    let blue = Backend::start("blue").await;
    let warm = "warm = { requests = [\"/slow\"], for = \"10ms\", deadline = \"20m\", at_start = \"all\" }";
    let service = |s: Service| s.blue([&blue]).health("/healthz").extra("cutover", warm);
    let _proxy = settings.service("shop", service).start_unready().await;
    blue.waiting(1).await;
    assert_eq!(manager.next().await, "EXTEND_TIMEOUT_USEC=1230000000\nSTATUS=warming up\n");
    blue.release();
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue\n");
}

#[tokio::test]
async fn the_manager_hears_of_every_reload_and_when_it_is_over() {
    let (mut manager, settings) = Ear::listen();
    let (blue, mut proxy) = shop(settings).await;
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue\n");
    proxy.hang_up();
    assert!(manager.next().await.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue\n");
    proxy.rewrite(|settings| settings.service("blog", |s| s.hosts(&["blog.test"]).blue([&blue])));
    assert_eq!(proxy.reload().await.0, 200);
    assert!(manager.next().await.starts_with("RELOADING=1\n"));
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue, blog from blue\n");
    fs::write(proxy.config_file(), "nonsense").unwrap();
    assert_eq!(proxy.reload().await.0, 422);
    assert!(manager.next().await.starts_with("RELOADING=1\n"));
    assert_eq!(manager.next().await, "READY=1\nSTATUS=serving shop from blue, blog from blue\n");
}

#[tokio::test]
async fn it_is_ready_only_once_it_serves() {
    let (mut manager, settings) = Ear::listen();
    let (blue, address) = (Backend::start("blue").await, own_address());
    let settings = settings.listen_on(address, None).service("shop", |s| s.blue([&blue]));
    settings.write();
    let file = settings.file();
    let _process = Process::start_managed(&settings.manager, &["serve", "--config", file.to_str().unwrap()]);
    assert!(manager.next().await.starts_with("READY=1\n"));
    // No second try: it listens, and its endpoints have been checked.
    assert_eq!(Client::http1(address).await.get("/").await.backend(), Some("blue"));
}

/// A whole process that is stopped is the one stall that can be made from outside; one worker's is proved beside the code.
#[tokio::test]
async fn a_proxy_that_does_not_turn_is_not_heard_from() {
    let (mut manager, settings) = Ear::listen();
    let folder = settings.folder().to_owned();
    let (_blue, proxy) = shop(settings.env("WATCHDOG_USEC", 200_000)).await;
    assert_eq!(manager.news().await, "READY=1\nSTATUS=serving shop from blue\n");
    assert_eq!(manager.next().await, BEAT);
    proxy.pause().await;
    // Behind our own word there is nothing that was said before.
    UnixDatagram::unbound().unwrap().send_to(b"paused", folder.join("notify")).await.unwrap();
    while manager.next().await != "paused" {}
    let silent = tokio::time::timeout(Duration::from_millis(600), manager.0.recv()).await;
    assert!(silent.is_err(), "{silent:?}");
    proxy.resume();
    assert_eq!(manager.next().await, BEAT);
}

/// An address that nobody else's sockets are in the way of.
fn own_address() -> SocketAddr {
    let part = || fastrand::u8(1..255);
    SocketAddr::from((Ipv4Addr::new(127, part(), part(), part()), 18_080))
}

/// The first connection made by whoever tries until there is one.
async fn first_connection(address: SocketAddr) -> Client {
    loop {
        match Client::try_http1(address).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// The real thing: it binds, and starts us at the first connection, which waits meanwhile and is served.
#[tokio::test]
async fn systemd_starts_it_at_the_first_connection_which_is_served() {
    let (blue, address) = (Backend::start("blue").await, own_address());
    let settings = Cutover::with().listen_on(address, None).service("shop", |s| s.blue([&blue]));
    settings.write();
    let mut command = Command::new("systemd-socket-activate");
    command.args([
        "--listen",
        &address.to_string(),
        "--fdname=http",
        env!("CARGO_BIN_EXE_cutover"),
        "serve",
        "--config",
    ]);
    command.arg(settings.file()).stdin(Stdio::null());
    let process = Process::run(command);
    let mut first = within("systemd-socket-activate (of the package systemd)", first_connection(address)).await;
    assert_eq!(first.get("/").await.backend(), Some("blue"));
    assert!(process.stderr().contains(&format!("listening on {address}")), "{}", process.stderr());
    process.signal(Signal::TERM);
    process.ended().await.assert_code(0);
}

/// What systemd-analyze says, all of it.
fn analyzed(args: &[&str]) -> String {
    let ran = Command::new("systemd-analyze").args(args).output().expect("systemd-analyze, of the package systemd");
    String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
}

#[test]
fn the_units_are_right_and_leave_little_exposed() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd").join(name);
    let [service, socket] = ["cutover.service", "cutover.socket"].map(|name| {
        // The program need not be installed.
        let text =
            fs::read_to_string(shipped(name)).unwrap().replace("/usr/bin/cutover", env!("CARGO_BIN_EXE_cutover"));
        let copy = folder.path().join(name);
        fs::write(&copy, text).unwrap();
        copy.display().to_string()
    });
    assert_eq!(analyzed(&["verify", "--man=no", &service, &socket]), "");
    let exposed = analyzed(&["security", "--offline=true", "--no-pager", &service]);
    let level = exposed.split("cutover.service: ").nth(1).and_then(|rest| rest.split(' ').next());
    let level: f64 = level.and_then(|level| level.parse().ok()).unwrap_or_else(|| panic!("{exposed}"));
    assert!(level <= 2.0, "{exposed}");
}
