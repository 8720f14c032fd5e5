//! Real servers as private child processes, and a TCP fault proxy.
