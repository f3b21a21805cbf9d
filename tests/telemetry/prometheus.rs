//! A real Prometheus scrapes a real agent, and its rules are those that are shipped.
