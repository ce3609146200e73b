//! Connections that end otherwise than by their client's wish: no line of the access log tells of those, a counter does.

/// Why a connection was lost. The order is that of the `reason` cells in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The client had as many as one may have.
    TooMany,
    /// Nothing was said in time.
    Silent,
    /// What was said first belongs to another protocol.
    Foreign,
    HandshakeFailed,
    HandshakeSlow,
    /// It idled or dawdled, and another needed its place.
    MadeRoom,
    /// The client did not take what it had asked for.
    SlowReader,
    /// HTTP/2 frames that carry nothing came in numbers.
    Flood,
    /// HTTP/2 was broken beyond the one request.
    Broken,
    /// The client's machine answers no more.
    Vanished,
}

impl Loss {
    /// Every reason, in the order of [`Loss::number`].
    pub const REASONS: [&str; 10] = [
        "too-many",
        "silent",
        "foreign",
        "handshake-failed",
        "handshake-slow",
        "made-room",
        "slow-reader",
        "flood",
        "broken",
        "vanished",
    ];

    pub fn number(self) -> usize {
        self as usize
    }

    /// What the system says of a connection that ended so, where that is more than that it ended.
    pub fn of(error: &std::io::Error) -> Option<Loss> {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(error)?;
        matches!(errno, Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH).then_some(Loss::Vanished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_name() {
        assert_eq!(Loss::REASONS[Loss::TooMany.number()], "too-many");
        assert_eq!(Loss::REASONS[Loss::MadeRoom.number()], "made-room");
        assert_eq!(Loss::REASONS[Loss::Vanished.number()], "vanished");
    }

    #[test]
    fn only_who_answers_no_more_has_vanished() {
        let of = |errno: rustix::io::Errno| Loss::of(&errno.into());
        assert_eq!(of(rustix::io::Errno::TIMEDOUT), Some(Loss::Vanished));
        assert_eq!(of(rustix::io::Errno::CONNRESET), None);
        assert_eq!(Loss::of(&std::io::ErrorKind::TimedOut.into()), None, "this is our own clock");
    }
}
