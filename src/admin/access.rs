//! Who may do what: over the socket whoever could connect, over TCP reads for all and writes with the token.

use std::net::SocketAddr;
use std::path::Path;

use axum::http::{HeaderMap, header};

use super::AdminError;
use super::problem::Problem;

/// The other side of an admin connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over the unix socket, with the user the kernel vouches for.
    User(Option<u32>),
    Tcp(SocketAddr),
}

/// The secret that allows writes over TCP. It is never shown.
#[derive(PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn read(path: &Path) -> Result<Token, AdminError> {
        let bad = |why: String| AdminError::Token { path: path.to_owned(), why };
        let text = std::fs::read_to_string(path).map_err(|error| bad(format!("cannot be read: {error}")))?;
        let token = text.trim();
        if token.len() < LEAST {
            return Err(bad(format!(
                "holds a token of {} characters; at least {LEAST} are needed, for example from `openssl rand -hex 32`",
                token.len()
            )));
        }
        Ok(Token(token.to_owned()))
    }

    /// Compares in a time that does not tell how much of it was right.
    fn is(&self, given: &str) -> bool {
        let (ours, given) = (self.0.as_bytes(), given.as_bytes());
        let differing = ours.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
        ours.len() == given.len() && differing == 0
    }
}

/// Who asks for a write, as the journal names him; a problem where he may not.
pub fn writer(peer: &Peer, headers: &HeaderMap, token: Option<&Token>) -> Result<String, Problem> {
    let address = match peer {
        Peer::User(Some(uid)) => return Ok(format!("uid {uid}")),
        Peer::User(None) => return Ok("uid unknown".to_owned()),
        Peer::Tcp(address) => address,
    };
    let Some(token) = token else {
        return Err(Problem::forbidden("over TCP nothing can be changed without `token_file` under [admin]"));
    };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
    match given {
        Some(given) if token.is(given.trim()) => Ok(format!("token from {}", address.ip())),
        _ => Err(Problem::unauthorized("send the token of the token file as `Authorization: Bearer TOKEN`")),
    }
}

/// Characters of the shortest token: fewer can be guessed.
const LEAST: usize = 16;
