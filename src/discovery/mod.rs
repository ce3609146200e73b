//! Discovery: where a color's endpoints are learned, and what of an answer is believed.

mod source;

pub use self::source::{Answer, Found, Source, SourceError};
