//! A WebSocket client that never reconnects.

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Address, within};

pub struct WebSocket(WebSocketStream<TcpStream>);

impl WebSocket {
    pub async fn connect(address: impl Address, host: &str, path: &str) -> WebSocket {
        WebSocket::try_connect(address, host, path).await.unwrap()
    }

    /// A refusal comes as `Error::Http`, with the answer in it.
    pub async fn try_connect(address: impl Address, host: &str, path: &str) -> Result<WebSocket, Error> {
        let socket = within("a connection", TcpStream::connect(address.address())).await?;
        let shake = tokio_tungstenite::client_async(format!("ws://{host}{path}"), socket);
        Ok(WebSocket(within("a WebSocket handshake", shake).await?.0))
    }

    pub async fn say(&mut self, text: &str) {
        within("the tunnel to take a message", self.0.send(text.into())).await.unwrap();
    }

    /// The next text; none when the other side has closed or the tunnel was cut.
    pub async fn hear(&mut self) -> Option<String> {
        loop {
            match within("a message", self.0.next()).await {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Says goodbye and waits until the other side has, too.
    pub async fn close(mut self) {
        within("the tunnel to take the goodbye", self.0.close(None)).await.unwrap();
        while self.hear().await.is_some() {}
    }
}
