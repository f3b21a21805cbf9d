//! What goes wrong is told, and leaves neither a backup nor a trace on the server.
