//! A RabbitMQ server of its own: node, data, ports and the port mapper of Erlang are private, and
//! it can be killed, paused, starved of memory and started again.

mod node;
#[cfg(test)]
mod tests;
mod vhost;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use serde_json::json;

use self::node::Node;
pub use self::vhost::TestVhost;
use crate::{Tls, blocking, http};

/// What a RabbitMQ server is started with. The default is a broker with its management interface
/// and nothing else.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    settings: Vec<(String, String)>,
    tls: bool,
}

impl RabbitMqOptions {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// A setting of the server, as in `rabbitmq.conf`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets clients use TLS as well, on another port, with a certificate for `localhost`.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }
}

/// A running RabbitMQ server. Clones are the same server; with the last one it ends and its files
/// are removed. It takes seconds to start, so that tests share one and take a vhost each.
#[derive(Clone, Debug)]
pub struct RabbitMq {
    node: Arc<Node>,
}

impl RabbitMq {
    /// Why no server can be started here, if so.
    pub fn missing() -> Option<String> {
        static FOUND: OnceLock<Option<String>> = OnceLock::new();
        FOUND.get_or_init(|| node::place().err()).clone()
    }

    /// Starts a server without any data.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn start(options: RabbitMqOptions) -> Self {
        blocking(move || Self { node: Arc::new(Node::start(options)) }).await
    }

    /// The server that all tests of this process share, with the default options.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<RabbitMq> = OnceLock::new();
        let start = || Self { node: Arc::new(Node::start(RabbitMqOptions::new())) };
        blocking(move || SHARED.get_or_init(start)).await
    }

    /// Makes an empty virtual host for one test.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn vhost(&self) -> TestVhost {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.demand("PUT", &format!("/api/vhosts/{name}"), "").await;
        let vhost = TestVhost::new(self.clone(), name);
        vhost.permit("guest", ".*", ".*", ".*").await;
        vhost
    }

    /// The port of 127.0.0.1 that it speaks AMQP on; a restart keeps it.
    pub fn port(&self) -> u16 {
        self.node.port()
    }

    /// The address of a virtual host, as the administrator `guest`.
    pub fn url(&self, vhost: &str) -> String {
        self.url_as("guest", "guest", vhost)
    }

    /// The address of a virtual host, as a user that exists.
    pub fn url_as(&self, user: &str, password: &str, vhost: &str) -> String {
        let (user, password, vhost) = (http::step(user), http::step(password), http::step(vhost));
        format!("amqp://{user}:{password}@127.0.0.1:{}/{vhost}", self.port())
    }

    /// The address of a virtual host with TLS, as the administrator `guest`.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls_url(&self, vhost: &str) -> String {
        assert!(self.node.tls().is_some(), "the server has no TLS: see RabbitMqOptions::tls");
        let (port, vhost) = (self.node.tls_port(), http::step(vhost));
        format!("amqps://guest:guest@localhost:{port}/{vhost}")
    }

    /// The certificates.
    ///
    /// # Panics
    /// If the server was started without TLS.
    pub fn tls(&self) -> &Tls {
        self.node.tls().expect("the server has no TLS: see RabbitMqOptions::tls")
    }

    /// The private folder of the server.
    pub fn directory(&self) -> &Path {
        self.node.directory()
    }

    /// Makes a user, or gives one another password; it has no rights anywhere until it is
    /// permitted something.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn add_user(&self, name: &str, password: &str) {
        let body = json!({ "password": password, "tags": "" }).to_string();
        self.demand("PUT", &format!("/api/users/{}", http::step(name)), &body).await;
    }

    /// Asks the management interface and returns the status and the body of its answer. Names that
    /// are steps of the path must be encoded; the path begins with `/api/`.
    ///
    /// # Panics
    /// If there is no answer.
    pub async fn api(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let (node, method) = (self.node.clone(), method.to_owned());
        let (path, body) = (path.to_owned(), body.to_owned());
        blocking(move || match node.ask(&method, &path, &body) {
            Ok(answer) => answer,
            Err(error) => panic!("RabbitMQ: {method} {path}: {error}\n{}", node.log()),
        })
        .await
    }

    /// Asks the management interface for something that it must not refuse.
    async fn demand(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.api(method, path, body).await;
        assert!((200..300).contains(&status), "RabbitMQ: {method} {path}: {status} {answer}");
        answer
    }

    /// Evaluates an Erlang expression in the server, such as `rabbit:is_running().`, and returns
    /// its value as text.
    ///
    /// # Errors
    /// What the expression, or the way to the server, failed of.
    pub async fn evaluate(&self, expression: &str) -> Result<String, String> {
        let (node, expression) = (self.node.clone(), expression.to_owned());
        blocking(move || node.evaluate(&expression)).await
    }

    /// Makes the server believe that it has no memory left, upon which it stops reading from
    /// whoever publishes; or ends that belief. It is about all virtual hosts: a test that does this
    /// starts a server of its own.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn set_memory_alarm(&self, alarm: bool) {
        let part = if alarm { "0.00001" } else { "0.6" };
        let set = format!("vm_memory_monitor:set_vm_memory_high_watermark({part}).");
        if let Err(reason) = self.evaluate(&set).await {
            panic!("RabbitMQ: no memory alarm: {reason}");
        }
    }

    /// Kills all its processes at once, as a crash of its machine would, and returns when they are
    /// gone. What the server had told the disk to keep is kept.
    pub async fn kill(&self) {
        let node = self.node.clone();
        blocking(move || node.kill()).await;
    }

    /// Starts it again, on the same port with the same data; kills it before if it runs. Returns
    /// when it accepts connections.
    ///
    /// # Panics
    /// If it does not start; the message holds the server's log.
    pub async fn restart(&self) {
        let node = self.node.clone();
        blocking(move || node.restart()).await;
    }

    /// Ends it in order.
    pub async fn stop(&self) {
        let node = self.node.clone();
        blocking(move || node.stop()).await;
    }

    /// Stops the clock of all its processes. Its clients notice nothing but silence.
    pub async fn pause(&self) {
        let node = self.node.clone();
        blocking(move || node.pause()).await;
    }

    /// Lets its processes go on.
    pub async fn resume(&self) {
        let node = self.node.clone();
        blocking(move || node.resume()).await;
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.node.log()
    }
}
