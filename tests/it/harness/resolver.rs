//! A caching resolver as clients have one: it obeys TTLs, or not.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// Asks one name server and keeps what it says.
pub struct Resolver {
    server: SocketAddr,
    /// It keeps every answer at least so long: 0 obeys.
    stubborn: Duration,
    known: Mutex<HashMap<String, (Vec<String>, Instant)>>,
}

impl Resolver {
    pub fn new(server: SocketAddr) -> Resolver {
        Resolver { server, stubborn: Duration::ZERO, known: Mutex::default() }
    }

    /// It disobeys: whatever the TTL says, it keeps an answer at least so long.
    pub fn keeps(self, stubborn: Duration) -> Resolver {
        Resolver { stubborn, ..self }
    }

    /// The addresses of a name, from what it remembers or from the server.
    pub async fn addresses(&self, name: &str) -> Vec<String> {
        let remembered = self.known.lock().unwrap().get(name).filter(|(_, until)| *until > Instant::now()).cloned();
        if let Some((addresses, _)) = remembered {
            return addresses;
        }
        let (addresses, ttl) = self.ask(name).await;
        let lives = Duration::from_secs(ttl.into()).max(self.stubborn);
        self.known.lock().unwrap().insert(name.to_owned(), (addresses.clone(), Instant::now() + lives));
        addresses
    }

    async fn ask(&self, name: &str) -> (Vec<String>, u32) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut question = Message::query();
        question.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), RecordType::A));
        let mut buffer = [0; 4096];
        socket.send_to(&question.to_vec().unwrap(), self.server).await.unwrap();
        let length = super::within("an answer of the name server", socket.recv(&mut buffer)).await.unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        let ttl = answer.answers.iter().map(|record| record.ttl).min().unwrap_or(0);
        let address = |data: &RData| match data {
            RData::A(ip) => Some(ip.to_string()),
            _ => None,
        };
        (answer.answers.iter().filter_map(|record| address(&record.data)).collect(), ttl)
    }
}
