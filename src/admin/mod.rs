//! What operators reach: one API, on a unix socket for whoever its mode lets in, and on TCP with a token for writes.

mod access;
mod api;
mod ask;
mod discover;
mod events;
mod names;
mod preview;
mod problem;
mod reload;
mod retire;
mod scrape;
mod serve;
mod stacks;
mod view;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener as InheritedSocket;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc, watch};

pub use self::access::Token;
pub use self::discover::Discovered;
pub use self::preview::Previewed;
pub use self::problem::{BACK_ALREADY, BAD_CONFIG, HELD, Problem};
pub use self::reload::{
    AskReload, ChangeView, ConfigState, ConfigView, RefusedReload, ReloadError, ReloadTold, Reloaded,
};
pub use self::view::{
    Check, ColorView, CutoverView, EndpointView, ListenerView, Outcome, Past, PreviewView, Proof, ServiceView, Status,
    TailView, Upstream, WarmingView,
};
use crate::access_log::Shelf;
use crate::config;
use crate::cutover::{Desk, Stage, Told};
use crate::discovery;
use crate::dns;
use crate::journal::Journal;
use crate::metrics::{CallSheet, RefusalSheet};
use crate::names::{Color, PerColor, ServiceName};
use crate::proxy::{Capacity, Listeners};
use crate::retire::Permit;
use crate::stack;
use crate::table::Switchboard;
use crate::tail;
use crate::time::Timestamp;

/// The running admin face.
pub struct Admin {
    state: Arc<api::State>,
    /// Where it listens on TCP, if it does.
    pub address: Option<SocketAddr>,
    /// Whether the socket was bound here.
    own: bool,
}

/// What the face looks at and acts through.
pub struct Scene {
    /// One for each service, in the order of the config.
    pub desks: ArcSwap<Vec<Desk>>,
    pub switchboard: Arc<Switchboard>,
    pub journal: Arc<Journal>,
    pub listeners: Arc<Listeners>,
    pub config: ConfigState,
    /// What operators are held to.
    pub admin: ArcSwap<config::Admin>,
    /// Where a reload is asked for.
    pub reload: mpsc::Sender<AskReload>,
    /// What allows writes over TCP.
    pub token: ArcSwapOption<Token>,
    pub nowhere: Vec<Arc<RefusalSheet>>,
    pub capacity: Arc<Capacity>,
    pub access_log: Arc<Shelf>,
    /// What is asked at Amazon, and how that ends.
    pub aws: Arc<CallSheet>,
    /// One for each service that names follow.
    pub names: ArcSwap<Vec<dns::Desk>>,
    pub names_told: broadcast::Sender<dns::Status>,
    /// One for each color whose endpoints are discovered.
    pub scouts: ArcSwap<Vec<discovery::Desk>>,
    pub discovered: broadcast::Sender<discovery::Status>,
    /// One for each service of which a color is a stack.
    pub stacks: ArcSwap<Vec<stack::Desk>>,
    pub stacks_told: broadcast::Sender<stack::Status>,
    pub told: broadcast::Sender<Told>,
    pub tails: broadcast::Sender<tail::Told>,
    pub stage: watch::Sender<Stage>,
    pub started: Timestamp,
}

impl Scene {
    pub fn desk(&self, service: &ServiceName) -> Option<Desk> {
        self.desks.load().iter().find(|desk| desk.name() == service).cloned()
    }

    /// What is shown of a service; nothing of one that has just been taken out of the table.
    pub fn view(&self, desk: &Desk) -> Option<ServiceView> {
        let discovery = PerColor::from_fn(|color| self.scout(desk.name(), color).map(|scout| scout.status()));
        let (names, stacks) = (self.names(desk.name()), self.stacks(desk.name()));
        let (names, stacks) = (names.map(|names| names.status()), stacks.map(|stacks| stacks.status()));
        ServiceView::of(desk, names, stacks, discovery)
    }

    /// Where a color's endpoints are discovered, if they are.
    pub fn scout(&self, service: &ServiceName, color: Color) -> Option<discovery::Desk> {
        self.scouts.load().iter().find(|scout| scout.service == *service && scout.color == color).cloned()
    }

    /// Where the service's stacks are looked after, if a color is one.
    pub fn stacks(&self, service: &ServiceName) -> Option<stack::Desk> {
        self.stacks.load().iter().find(|stacks| stacks.service == *service).cloned()
    }

    /// May this color be terminated? Nothing for a service that has just been taken out of the table.
    pub fn permit(&self, desk: &Desk, color: Color) -> Option<Permit> {
        retire::permit(self, desk, color)
    }

    /// Where the service's names are looked after, if it has any.
    pub fn names(&self, service: &ServiceName) -> Option<dns::Desk> {
        self.names.load().iter().find(|names| names.service == *service).cloned()
    }
}

impl Admin {
    /// The socket is bound here, unless it has been inherited.
    pub async fn start(
        config: &config::Admin,
        scene: Arc<Scene>,
        inherited: Option<InheritedSocket>,
    ) -> Result<Admin, AdminError> {
        let tcp = match config.listen {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| AdminError::Listen { address, source })?)
            }
        };
        let address = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
        let own = inherited.is_none();
        let unix = match inherited {
            Some(socket) => adopt(socket).map_err(|source| AdminError::Inherited { source })?,
            None => bind(&config.socket).await?,
        };
        let bound = unix.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
        let socket = bound.filter(|_| !own).unwrap_or(config.socket.clone());
        let state = Arc::new(api::State { scene, address, socket });
        let routes = api::routes(state.clone());
        let scene = &state.scene;
        tokio::spawn(serve::serve(unix, routes.clone(), scene.clone()));
        if let Some(tcp) = tcp {
            tokio::spawn(serve::serve(tcp, routes, scene.clone()));
        }
        Ok(Admin { state, address, own })
    }

    /// Takes no more orders, and says that the proxy is not ready: it is about to end.
    pub fn leave(&self) {
        self.state.scene.stage.send_replace(Stage::Ending);
    }

    /// Takes the socket away, so that nobody knocks at a door without a house. An inherited one stays: who bound it
    /// starts another proxy when somebody knocks.
    pub fn stop(self) {
        if self.own {
            // Where it is gone already there is nothing to do.
            let _ = std::fs::remove_file(&self.state.socket);
        }
    }
}

fn adopt(socket: InheritedSocket) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

/// Binds under another name, sets the mode, then moves it into place: at no instant can anyone else connect.
async fn bind(path: &Path) -> Result<UnixListener, AdminError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(AdminError::Taken { path: path.to_owned() });
    }
    let failed = |source| AdminError::Socket { path: path.to_owned(), source };
    if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
        return Err(AdminError::NotASocket { path: path.to_owned() });
    }
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let listener = UnixListener::bind(&draft).map_err(failed)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)?;
    Ok(listener)
}

/// Why operators cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("the admin address {address} cannot be listened on: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error(
        "the admin socket {} cannot be made: {source}; does its folder exist, and may this user write there? (`socket` under [admin])",
        path.display()
    )]
    Socket { path: PathBuf, source: io::Error },
    #[error("the admin socket that was handed over cannot be used: {source}")]
    Inherited { source: io::Error },
    #[error("{} is there already and is no socket; move it away, or name another path (`socket` under [admin])", path.display())]
    NotASocket { path: PathBuf },
    #[error(
        "another proxy answers at {}; stop it, or give this one a socket of its own (`socket` under [admin])",
        path.display()
    )]
    Taken { path: PathBuf },
    #[error("the token file {} {why}", path.display())]
    Token { path: PathBuf, why: String },
}

/// Owner and group may connect; the group is how operators are let in.
const SOCKET_MODE: u32 = 0o660;
