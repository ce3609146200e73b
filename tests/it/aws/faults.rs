//! Whatever goes wrong on the way is told as what it is.
