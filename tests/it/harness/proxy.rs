//! The proxy under test: the real binary as a child process, its config, its admin API, its signals.

use std::net::SocketAddr;
use std::path::PathBuf;

use http::{Method, Request};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::net::UnixStream;

use super::client::Opened;
use super::settings::{Settings, TOKEN};
use super::{Address, Backend, Client, Health, Metrics, PATIENCE, Process, Ran, body, eventually};

pub struct Cutover {
    settings: Settings,
    /// Another one after each start: nothing could keep the port ours in between.
    admin: SocketAddr,
    process: Process,
    /// Bound, never listening: they keep the ports ours from one process to the next.
    _ports: Vec<Socket>,
}

impl Cutover {
    pub fn with() -> Settings {
        Settings::new()
    }

    pub async fn start(settings: Settings) -> Cutover {
        let proxy = Cutover::start_unready(settings).await;
        proxy.until_ready().await;
        proxy.until_checked().await;
        proxy
    }

    pub async fn start_unready(settings: Settings) -> Cutover {
        settings.write();
        let process = serve(&settings);
        let mut proxy = Cutover { admin: settings.admin, settings, process, _ports: Vec::new() };
        proxy.until_answering().await;
        proxy.learn_ports().await;
        proxy
    }

    /// Where the cleartext listener really listens.
    pub fn address(&self) -> SocketAddr {
        self.settings.listen[0].address
    }

    pub fn tls_address(&self) -> SocketAddr {
        self.settings.listen[1].address
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn admin_socket(&self) -> PathBuf {
        self.settings.socket()
    }

    pub fn config_file(&self) -> PathBuf {
        self.settings.file()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.settings.state_dir()
    }

    pub fn log_file(&self) -> PathBuf {
        self.settings.log_file()
    }

    /// The lines of the access log as JSON, once there are so many.
    pub async fn logged(&self, n: usize) -> Vec<Value> {
        let text = || std::fs::read_to_string(self.log_file()).unwrap();
        let there = eventually(PATIENCE, || async { text().matches('\n').count() >= n }).await;
        assert!(there, "not {n} lines in\n{}", text());
        let json = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        // What stands behind the last end of a line may be on its way.
        text()
            .rsplit_once('\n')
            .into_iter()
            .flat_map(|(lines, _)| lines.lines().map(json).collect::<Vec<_>>())
            .collect()
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Value {
        self.api("GET", "/v1/status", Value::Null).await.1
    }

    /// What status says of one service.
    pub async fn service(&self, name: &str) -> Value {
        let status = self.status().await;
        let services = status["services"].as_array().unwrap_or_else(|| panic!("no services in {status}"));
        services.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}")).clone()
    }

    pub async fn metrics(&self) -> Metrics {
        let mut client = self.admin().await.expect("the admin socket answers");
        Metrics::parse(client.get("/metrics").await.text())
    }

    /// One call over the unix socket; `Null` sends and stands for no body.
    pub async fn api(&self, method: &str, path: &str, json: Value) -> (u16, Value) {
        call(self.admin().await.expect("the admin socket answers"), method, path, json, None).await
    }

    /// One call over TCP.
    pub async fn api_tcp(&self, method: &str, path: &str, json: Value, token: Option<&str>) -> (u16, Value) {
        call(Client::http1(self.admin_address()).await.host("localhost"), method, path, json, token).await
    }

    pub fn token(&self) -> &'static str {
        TOKEN
    }

    /// `GET /v1/events`, or any other answer that does not end; the client must live as long as the answer is read.
    pub async fn watch(&self, path: &str) -> (Client, Opened) {
        let mut client = self.admin().await.expect("the admin socket answers");
        let answer = client.open(Request::get(path).body(body::empty()).unwrap()).await;
        (client, answer)
    }

    /// Runs a command against this proxy to its end.
    pub async fn run(&self, args: &[&str]) -> Ran {
        self.spawn(args).ended().await
    }

    /// Begins a command against this proxy.
    pub fn spawn(&self, args: &[&str]) -> Process {
        let admin = format!("unix:{}", self.admin_socket().display());
        Process::start(&[args, &["--admin", &admin]].concat())
    }

    /// Changes the config file; the proxy does not know yet.
    pub fn rewrite(&mut self, change: impl FnOnce(Settings) -> Settings) {
        let settings = std::mem::replace(&mut self.settings, Settings::new());
        self.settings = change(settings);
        self.settings.write();
    }

    /// Has it read the file anew: what it answers, with the ports it chose in the file from then on.
    pub async fn reload(&mut self) -> (u16, Value) {
        let answer = self.api("POST", "/v1/reload", Value::Null).await;
        if answer.0 == 200 {
            self.learn_ports().await;
        }
        answer
    }

    /// Changes the config file and has it read, which must work: what it answers.
    pub async fn reload_with(&mut self, change: impl FnOnce(Settings) -> Settings) -> Value {
        self.rewrite(change);
        let (status, answer) = self.reload().await;
        assert_eq!(status, 200, "{answer:#}");
        answer
    }

    /// Asks for the same by a signal, and does not wait for it.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// Takes the green of `shop` down, and lets it pass a check since: fewer than it takes to be up.
    pub async fn begin_to_rise(&self, green: &Backend) {
        let seen = async |key: &str, value: Value| {
            let is = || async { self.service("shop").await["green"]["endpoints"][0].pointer(key) == Some(&value) };
            assert!(eventually(PATIENCE, is).await, "green's {key} is not {value}");
        };
        green.health(Health::Failing(500));
        seen("/state", "down".into()).await;
        green.health(Health::Passing);
        seen("/last_check/passed", true.into()).await;
    }

    /// The same, and there it stays: a switch to it waits for as long as the story likes.
    pub async fn never_rise(&mut self, green: &Backend) {
        let health = |lines: &'static str| |settings: Settings| settings.service("shop", |s| s.extra("health", lines));
        self.reload_with(health("rise = 100")).await;
        self.begin_to_rise(green).await;
        self.reload_with(health("interval = \"1h\"")).await;
    }

    /// Where the listener at this place of the config really listens.
    pub fn address_of(&self, place: usize) -> SocketAddr {
        self.settings.listen[place].address
    }

    /// Ends it as a power cut would.
    pub async fn kill9(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.ended().await;
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Asks it to end, and does not wait for that.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to end, waits, and tells how it did.
    pub async fn terminate(&mut self) -> Ran {
        self.ask_to_end();
        self.ended().await
    }

    /// Waits for it to end by itself.
    pub async fn ended(&self) -> Ran {
        self.process.ended().await
    }

    /// Stops its time: whatever happens until `resume` happens to it at once.
    pub async fn pause(&self) {
        self.process.signal(Signal::STOP);
        // Each thread stops on its own, a worker perhaps after the first one has.
        let stopped = || async { self.threads().iter().all(|status| line(status, "State:").starts_with('T')) };
        assert!(eventually(PATIENCE, stopped).await, "the proxy does not stop");
    }

    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Runs it again with the same config, state and ports, and resolves when it is ready.
    pub async fn restart(&mut self) {
        self.restart_unready().await;
        self.until_ready().await;
        self.until_checked().await;
    }

    /// As `restart`, for stories without a healthy backend.
    pub async fn restart_unready(&mut self) {
        if self.process.is_running() {
            self.terminate().await;
        }
        self.process = serve(&self.settings);
        self.until_answering().await;
        self.learn_ports().await;
    }

    /// Runs it again where it is expected to refuse: resolves with its end.
    pub async fn restart_in_vain(&mut self) -> Ran {
        self.process = serve(&self.settings);
        self.process.ended().await
    }

    pub fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// The processes that it has started and whose end it has not seen.
    pub fn children(&self) -> Vec<String> {
        let parent = self.process.id().to_string();
        let told = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
            // `ID (NAME) STATE PARENT ..`, where the name may hold anything.
            let of = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            (of == parent).then_some(stat)
        });
        told.collect()
    }

    /// Has it open no more files, for as long as `run` takes; what is open stays so.
    pub async fn without_descriptors<T>(&self, run: impl Future<Output = T>) -> T {
        self.limited(Resource::Nofile, 3, run).await
    }

    /// Has it no more than so much of this for as long as `run` takes.
    pub async fn limited<T>(&self, what: Resource, most: u64, run: impl Future<Output = T>) -> T {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let maximum = getrlimit(what).maximum;
        let before = prlimit(pid, what, Rlimit { current: Some(most), maximum }).unwrap();
        let done = run.await;
        prlimit(pid, what, before).unwrap();
        done
    }

    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    /// What of its memory is in RAM.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        line(&status, "VmRSS:").trim_end_matches(" kB").parse().unwrap()
    }

    /// The `status` of each thread.
    fn threads(&self) -> Vec<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        threads.flat_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status"))).collect()
    }

    async fn until_ready(&self) {
        self.until("ready", |status| status == 200).await;
    }

    /// The proxy itself waits for the live colors alone.
    async fn until_checked(&self) {
        let checked = || async { all_checked(&self.status().await) };
        assert!(eventually(PATIENCE, checked).await, "not every endpoint has had its first check");
    }

    async fn until_answering(&self) {
        self.until("answering", |_| true).await;
    }

    async fn until(&self, what: &str, good: fn(u16) -> bool) {
        let asked = || async {
            assert!(self.process.is_running(), "the proxy ended before it was {what}");
            match self.admin().await {
                Ok(mut client) => client.get("/readyz").await.status,
                Err(_) => 0,
            }
        };
        let good = || async { matches!(asked().await, status if status > 0 && good(status)) };
        assert!(eventually(PATIENCE, good).await, "the proxy is not {what}");
    }

    /// A connection to the admin socket that stays.
    pub async fn operator(&self) -> Client {
        self.admin().await.expect("the admin socket answers")
    }

    async fn admin(&self) -> Result<Client, String> {
        let socket = UnixStream::connect(self.admin_socket()).await.map_err(|error| error.to_string())?;
        Ok(Client::over_http1(socket).await?.host("localhost"))
    }

    /// Port 0 at first; from then on the ports it got, in the config too.
    async fn learn_ports(&mut self) {
        let status = self.status().await;
        let address = |value: &Value| -> SocketAddr {
            let text = value.as_str().unwrap_or_else(|| panic!("an address is missing in {status}"));
            text.parse().unwrap()
        };
        for (i, listen) in self.settings.listen.iter_mut().enumerate() {
            listen.address = address(&status["listeners"][i]["address"]);
            self._ports.extend(kept(listen.address));
        }
        self.admin = address(&status["admin"]["listen"]);
        self.settings.write();
    }
}

impl Address for Cutover {
    fn address(&self) -> SocketAddr {
        Cutover::address(self)
    }
}

impl Drop for Cutover {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the proxy said ---\n{}--- its config ---", self.stderr());
            eprintln!("{}", std::fs::read_to_string(self.config_file()).unwrap_or_default());
        }
    }
}

/// What follows `name` in a `status` file of `/proc`.
fn line<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim()
}

/// Whether each endpoint of this status has had its first check.
pub fn all_checked(status: &Value) -> bool {
    let services = status["services"].as_array().into_iter().flatten();
    let colors = services.flat_map(|service| [&service["blue"], &service["green"]]);
    let mut endpoints = colors.flat_map(|color| color["endpoints"].as_array().into_iter().flatten());
    endpoints.all(|endpoint| endpoint["state"] != "unknown")
}

fn serve(settings: &Settings) -> Process {
    let (file, workers) = (settings.file(), settings.workers.to_string());
    let args = ["serve", "--config", file.to_str().unwrap(), "--workers", &workers];
    Process::start_managed(&settings.manager, &args)
}

pub async fn call(mut client: Client, method: &str, path: &str, json: Value, token: Option<&str>) -> (u16, Value) {
    let body = if json.is_null() { body::empty() } else { body::full(json.to_string()) };
    let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
    if !json.is_null() {
        request = request.header("content-type", "application/json");
    }
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = client.send(request.body(body).unwrap()).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

/// The workers' listeners have SO_REUSEPORT, so one more socket may stand beside them; it gets no connections.
fn kept(address: SocketAddr) -> Option<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.set_reuse_address(true).ok()?;
    socket.set_reuse_port(true).ok()?;
    socket.bind(&address.into()).ok()?;
    Some(socket)
}
