//! Frontier.
