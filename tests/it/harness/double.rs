//! What every double of something of Amazon is: served on loopback over real HTTP, until it is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::Request;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::reception::{Asked, Reception};

/// One double; dropping it ends it.
pub struct Double<R> {
    pub address: SocketAddr,
    role: Arc<Mutex<R>>,
    task: JoinHandle<()>,
}

/// What it plays, and how that answers.
pub trait Role: Send + 'static {
    /// What is asked for; `?` where there is no such operation.
    fn operation(request: &Request<Bytes>) -> &'static str;

    /// The fronts there are.
    fn receptions(&mut self) -> &mut [Reception];

    /// At which of them this is asked for.
    fn front(_operation: &str) -> usize {
        0
    }

    /// The answer, and what came of it.
    fn answer(&mut self, asked: &Asked, request: &Request<Bytes>) -> (Response, String);
}

impl<R: Role> Double<R> {
    pub async fn serve(role: R) -> Double<R> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let role = Arc::new(Mutex::new(role));
        let router = Router::new().fallback(answer_to::<R>).with_state(role.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Double { address, role, task }
    }

    /// What goes into `endpoint_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers so many requests of this operation (`*`: any) with an error instead.
    pub fn fail(&self, operation: &'static str, times: usize, status: u16, code: &str, message: &str) {
        self.inside().receptions()[R::front(operation)].fail(operation, times, status, code, message);
    }

    /// As IAM does where no policy allows it, for ever.
    pub fn deny(&self, operation: &'static str) {
        self.inside().receptions()[R::front(operation)].deny(operation);
    }

    /// No more failures.
    pub fn mend(&self) {
        self.inside().receptions().iter_mut().for_each(Reception::mend);
    }

    /// Counts requests from now on, and throttles what is too much.
    pub fn throttle(&self) {
        self.inside().receptions().iter_mut().for_each(Reception::throttle);
    }

    /// Only this access key is known from now on.
    pub fn know_only(&self, access_key: &str) {
        self.inside().receptions().iter_mut().for_each(|reception| reception.know_only(access_key));
    }

    /// Every request so far, of each front in its order.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside().receptions().iter().flat_map(Reception::asked).cloned().collect()
    }

    /// Every request for this operation so far.
    pub fn asked_for(&self, operation: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.operation == operation).collect()
    }

    /// How often this was asked.
    pub fn count(&self, operation: &str) -> usize {
        self.asked_for(operation).len()
    }

    /// A look at what is inside, as it is whenever one looks.
    pub fn view<T: 'static>(
        &self,
        look: impl Fn(&R) -> T + Send + Sync + 'static,
    ) -> impl Fn() -> T + Send + Sync + 'static {
        let role = self.role.clone();
        move || look(&lock(&role))
    }

    pub fn inside(&self) -> MutexGuard<'_, R> {
        lock(&self.role)
    }
}

impl<R> Drop for Double<R> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_to<R: Role>(State(role): State<Arc<Mutex<R>>>, request: axum::extract::Request) -> Response {
    let (head, body) = request.into_parts();
    let request = Request::from_parts(head, to_bytes(body, usize::MAX).await.unwrap());
    let operation = R::operation(&request);
    let mut role = lock(&role);
    let asked = role.receptions()[R::front(operation)].read(operation, request.headers(), request.body());
    let (answer, outcome) = role.answer(&asked, &request);
    role.receptions()[R::front(operation)].note(asked, &outcome);
    answer
}

fn lock<R>(role: &Mutex<R>) -> MutexGuard<'_, R> {
    // A story that has failed has still to be told why.
    role.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
