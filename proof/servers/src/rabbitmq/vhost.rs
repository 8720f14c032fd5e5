//! A virtual host for one test.

use std::thread;

use serde_json::{Value, json};

use super::RabbitMq;
use crate::http;

/// An empty virtual host of its own. It is deleted, with all connections to it, soon after this is
/// dropped.
#[derive(Debug)]
pub struct TestVhost {
    rabbitmq: RabbitMq,
    /// Its name.
    pub name: String,
}

impl TestVhost {
    pub(super) fn new(rabbitmq: RabbitMq, name: String) -> Self {
        Self { rabbitmq, name }
    }

    /// Its address, as the administrator `guest`.
    pub fn url(&self) -> String {
        self.rabbitmq.url(&self.name)
    }

    /// Its address as another user.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.rabbitmq.url_as(user, password, &self.name)
    }

    /// The server it is on.
    pub fn server(&self) -> &RabbitMq {
        &self.rabbitmq
    }

    /// Makes a user with rights on this virtual host only: patterns for the names of what it may
    /// declare, write to and read from; an empty pattern permits nothing. Users belong to the
    /// server: the name should hold the name of the virtual host.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn user(&self, name: &str, password: &str, configure: &str, write: &str, read: &str) {
        self.rabbitmq.add_user(name, password).await;
        self.permit(name, configure, write, read).await;
    }

    /// Gives a user that exists rights on this virtual host; they replace those it has.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn permit(&self, user: &str, configure: &str, write: &str, read: &str) {
        let body = json!({ "configure": configure, "write": write, "read": read }).to_string();
        let path = format!("/api/permissions/{}/{}", self.name, http::step(user));
        self.rabbitmq.demand("PUT", &path, &body).await;
    }

    /// What the management interface says about one of the things in this virtual host; `kind` is
    /// `queues` or `exchanges`. Nothing if it is not there. Counts in it may be a second old.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn describe(&self, kind: &str, name: &str) -> Option<Value> {
        let path = format!("/api/{kind}/{}/{}", self.name, http::step(name));
        let (status, answer) = self.rabbitmq.api("GET", &path, "").await;
        match status {
            200 => Some(serde_json::from_str(&answer).expect("the answer is JSON")),
            404 => None,
            _ => panic!("RabbitMQ: GET {path}: {status} {answer}"),
        }
    }

    /// Declares an exchange; `kind` is `topic`, `direct`, `fanout` or `headers`.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn declare_exchange(&self, name: &str, kind: &str) {
        let body = json!({ "type": kind, "durable": true }).to_string();
        let path = format!("/api/exchanges/{}/{}", self.name, http::step(name));
        self.rabbitmq.demand("PUT", &path, &body).await;
    }

    /// Declares a durable queue with arguments such as `{"x-queue-type": "quorum"}`.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn declare_queue(&self, name: &str, arguments: &Value) {
        let body = json!({ "durable": true, "arguments": arguments }).to_string();
        let path = format!("/api/queues/{}/{}", self.name, http::step(name));
        self.rabbitmq.demand("PUT", &path, &body).await;
    }

    /// Binds a queue to an exchange.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn bind(&self, exchange: &str, queue: &str, routing_key: &str) {
        let body = json!({ "routing_key": routing_key }).to_string();
        self.rabbitmq.demand("POST", &self.bindings(exchange, queue), &body).await;
    }

    /// Takes a binding away.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn unbind(&self, exchange: &str, queue: &str, routing_key: &str) {
        let path = self.bindings(exchange, queue);
        let known = self.rabbitmq.demand("GET", &path, "").await;
        let known: Value = serde_json::from_str(&known).expect("the answer is JSON");
        let binding = known
            .as_array()
            .into_iter()
            .flatten()
            .find(|binding| binding["routing_key"].as_str() == Some(routing_key));
        let properties = binding.and_then(|binding| binding["properties_key"].as_str());
        let properties = properties.unwrap_or_else(|| panic!("no such binding among {known}"));
        self.rabbitmq.demand("DELETE", &format!("{path}/{}", http::step(properties)), "").await;
    }

    fn bindings(&self, exchange: &str, queue: &str) -> String {
        let (exchange, queue) = (http::step(exchange), http::step(queue));
        format!("/api/bindings/{}/e/{exchange}/q/{queue}", self.name)
    }

    /// Deletes a queue with all that is in it.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn delete_queue(&self, name: &str) {
        let path = format!("/api/queues/{}/{}", self.name, http::step(name));
        self.rabbitmq.demand("DELETE", &path, "").await;
    }

    /// Deletes an exchange.
    ///
    /// # Panics
    /// If it is not there.
    pub async fn delete_exchange(&self, name: &str) {
        let path = format!("/api/exchanges/{}/{}", self.name, http::step(name));
        self.rabbitmq.demand("DELETE", &path, "").await;
    }

    /// Closes all connections to this virtual host in order, as an operator would, and returns how
    /// many there were.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn close_connections(&self) -> usize {
        // The management interface would tell of a connection only some seconds after its begin.
        let expression = format!(
            "length([C || C <- rabbit_networking:connections(), \
             (catch rabbit_networking:connection_info(C, [vhost])) =:= [{{vhost, <<\"{}\">>}}], \
             rabbit_networking:close_connection(C, \"closed by an operator\") =:= ok]).",
            self.name
        );
        let closed = self.rabbitmq.evaluate(&expression).await;
        match closed.as_ref().map(|count| count.parse()) {
            Ok(Ok(count)) => count,
            _ => panic!("RabbitMQ: connections are not closed: {closed:?}"),
        }
    }
}

impl Drop for TestVhost {
    fn drop(&mut self) {
        let (node, name) = (self.rabbitmq.node.clone(), self.name.clone());
        // Nobody waits for it and nobody misses it if it fails: the server's end removes all.
        thread::spawn(move || drop(node.ask("DELETE", &format!("/api/vhosts/{name}"), "")));
    }
}
