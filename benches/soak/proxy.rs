//! The proxy as a process of its own, with what the system knows of it, and the commands an operator would give.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

pub struct Proxy {
    child: Child,
    folder: tempfile::TempDir,
    program: std::path::PathBuf,
    pub address: SocketAddr,
}

impl Proxy {
    /// Starts it; it is ready once requests are answered.
    pub fn start(program: &Path, workers: usize, blue: u16, green: u16) -> anyhow::Result<Proxy> {
        let folder = tempfile::tempdir()?;
        fs::create_dir(folder.path().join("state"))?;
        let port = free_port()?;
        let config = folder.path().join("cutover.toml");
        fs::write(&config, toml(folder.path(), port, blue, green))?;
        let said = fs::File::create(folder.path().join("said"))?;
        let child = Command::new(program)
            .args(["serve", "--workers", &workers.to_string(), "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(said)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Proxy { child, folder, program: program.to_owned(), address })
    }

    /// `cutover switch`, as an operator gives it: what it returned. It exits with 1 where it leaves requests behind, as
    /// most do here.
    pub fn switch(&self, to: &str) -> anyhow::Result<Value> {
        let (outcome, said) = self.command(&["switch", to])?;
        let is_done = outcome["outcome"] == "done" && outcome["proof"]["requests_to_old_since"] == 0;
        ensure!(is_done, "the switch to {to} failed:\n{outcome}\n{said}");
        Ok(outcome)
    }

    /// `cutover reload`, with nothing changed in the file.
    pub fn reload(&self) -> anyhow::Result<()> {
        let (outcome, said) = self.command(&["reload"])?;
        ensure!(outcome["outcome"] == "unchanged", "an equal reload failed:\n{outcome}\n{said}");
        Ok(())
    }

    /// What a command prints as JSON, and what it says beside that.
    fn command(&self, args: &[&str]) -> anyhow::Result<(Value, String)> {
        let admin = format!("unix:{}", self.folder.path().join("admin.sock").display());
        let done = Command::new(&self.program).args(args).args(["--json", "--admin", &admin]).output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        Ok((serde_json::from_slice(&done.stdout).unwrap_or_default(), said))
    }

    /// Descriptors that are open.
    pub fn descriptors(&self) -> anyhow::Result<u64> {
        Ok(fs::read_dir(self.proc("fd"))?.count() as u64)
    }

    /// What of its memory is in RAM.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(self.proc("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Whether it still runs; what it said last where it does not.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let said = || fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
        ensure!(self.child.try_wait()?.is_none(), "the proxy has ended:\n{}", said());
        Ok(())
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // One that has ended cannot be ended; either way it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No drain is waited for, since the slow requests take longer than that: each switch leaves some of them behind.
fn toml(folder: &Path, port: u16, blue: u16, green: u16) -> String {
    let (socket, state) = (folder.join("admin.sock"), folder.join("state"));
    let mut toml = format!("[admin]\nsocket = {socket:?}\n[state]\ndir = {state:?}\n");
    write!(
        toml,
        r#"
        [[listener]]
        address = "127.0.0.1:{port}"
        [service.shop.blue]
        endpoints = ["127.0.0.1:{blue}"]
        [service.shop.green]
        endpoints = ["127.0.0.1:{green}"]
        [service.shop.health]
        interval = "200ms"
        timeout = "5s"
        rise = 1
        [service.shop.cutover]
        drain = {{ requests = "0s", tunnels = "0s" }}
        "#
    )
    .expect("a string takes what is written");
    toml
}

pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
