//! The processes of a RabbitMQ server: the broker in its Erlang machine, and the port mapper that
//! Erlang wants beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::process::Signal;

use super::RabbitMqOptions;
use crate::guardian::Guardian;
use crate::process::Process;
use crate::{Tls, command, http, log, port};

/// How long the broker may take to accept connections; on a busy machine it takes 20 s.
const START: Duration = Duration::from_secs(120);
/// How long an orderly end may take.
const STOP: Duration = Duration::from_secs(60);
/// How long an expression may take to be evaluated.
const EVALUATE: Duration = Duration::from_secs(30);
/// How often the broker is asked whether it is ready.
const LOOK: Duration = Duration::from_millis(50);
/// How many sets of ports are tried for a new server.
const PORTS: u32 = 5;

const NAME: &str = "posthaste@localhost";
const COOKIE: &str = "posthaste";

/// The scripts of the Debian package that must not be used: they change the user.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";

/// The ports of a server.
#[derive(Clone, Copy, Debug)]
struct Ports {
    amqp: u16,
    amqps: u16,
    management: u16,
    distribution: u16,
    mapper: u16,
}

impl Ports {
    fn pick() -> Self {
        Self {
            amqp: port::free_port(),
            amqps: port::free_port(),
            management: port::free_port(),
            distribution: port::free_port(),
            mapper: port::free_port(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Node {
    scripts: PathBuf,
    ports: Ports,
    options: RabbitMqOptions,
    tls: Option<Tls>,
    broker: Mutex<Option<Process>>,
    mapper: Mutex<Option<Process>>,
    guardian: Guardian,
}

impl Node {
    pub(super) fn start(options: RabbitMqOptions) -> Self {
        let scripts = place().unwrap_or_else(|reason| panic!("{reason}"));
        let guardian = Guardian::start(None).expect("a private directory can be made");
        let tls = options
            .tls
            .then(|| Tls::make(guardian.directory(), None).expect("the directory is writable"));
        let mut node = Self {
            scripts,
            ports: Ports::pick(),
            options,
            tls,
            broker: Mutex::new(None),
            mapper: Mutex::new(None),
            guardian,
        };
        for _ in 0..PORTS {
            match node.prepare().map_err(|error| error.to_string()).and_then(|()| node.launch()) {
                Ok(()) => return node,
                Err(_) if node.port_was_taken() => node.ports = Ports::pick(),
                Err(reason) => panic!("RabbitMQ: {reason}\n{}", node.log()),
            }
        }
        panic!("RabbitMQ: {PORTS} times in a row a port was taken\n{}", node.log());
    }

    pub(super) fn port(&self) -> u16 {
        self.ports.amqp
    }

    pub(super) fn tls_port(&self) -> u16 {
        self.ports.amqps
    }

    pub(super) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub(super) fn directory(&self) -> &Path {
        self.guardian.directory()
    }

    pub(super) fn kill(&self) {
        drop(self.broker().take());
    }

    pub(super) fn restart(&self) {
        self.kill();
        if let Err(reason) = self.launch() {
            panic!("RabbitMQ: {reason}\n{}", self.log());
        }
    }

    pub(super) fn stop(&self) {
        if let Some(mut broker) = self.broker().take() {
            broker.end(Signal::TERM, STOP);
        }
    }

    pub(super) fn pause(&self) {
        if let Some(broker) = &*self.broker() {
            broker.pause();
        }
    }

    pub(super) fn resume(&self) {
        if let Some(broker) = &*self.broker() {
            broker.resume();
        }
    }

    pub(super) fn log(&self) -> String {
        log::tail(&self.file("log"))
    }

    /// Asks the management interface.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        http::ask(self.ports.management, "guest:guest", method, path, body)
    }

    /// Evaluates an expression in the broker. The small tool of Erlang takes milliseconds; the
    /// broker's own, where that one is not installed, seconds.
    pub(super) fn evaluate(&self, expression: &str) -> Result<String, String> {
        if command::find("erl_call").is_none() {
            let mut tool = self.command(&self.scripts.join("rabbitmqctl"));
            tool.args(["-q", "eval", expression]);
            return command::run(&mut tool, "", EVALUATE);
        }
        let mut tool = self.command(Path::new("erl_call"));
        tool.args(["-sname", NAME, "-c", COOKIE, "-e"]);
        let answer = command::run(&mut tool, &format!("{expression}\n"), EVALUATE)?;
        let value = answer.strip_prefix("{ok, ").and_then(|rest| rest.strip_suffix('}'));
        value.map(str::to_owned).ok_or(answer)
    }

    fn broker(&self) -> MutexGuard<'_, Option<Process>> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.guardian.directory().join(name)
    }

    /// Writes the files that a broker reads, and starts the port mapper.
    fn prepare(&self) -> io::Result<()> {
        let Ports { amqp, management, .. } = self.ports;
        let mut settings = vec![
            ("listeners.tcp.1", format!("127.0.0.1:{amqp}")),
            ("management.tcp.ip", "127.0.0.1".to_owned()),
            ("management.tcp.port", management.to_string()),
            ("loopback_users", "none".to_owned()),
            ("vm_memory_high_watermark.relative", "0.6".to_owned()),
            ("disk_free_limit.absolute", "10MB".to_owned()),
            ("collect_statistics_interval", "1000".to_owned()),
            ("log.console", "true".to_owned()),
            ("log.console.level", "info".to_owned()),
            ("log.file", "false".to_owned()),
        ];
        if let Some(tls) = &self.tls {
            let file = |path: &Path| path.display().to_string();
            settings.extend([
                ("listeners.ssl.1", format!("127.0.0.1:{}", self.ports.amqps)),
                ("ssl_options.cacertfile", file(&tls.authority)),
                ("ssl_options.certfile", file(&tls.certificate)),
                ("ssl_options.keyfile", file(&tls.key)),
            ]);
        }
        let chosen = self.options.settings.iter();
        settings.extend(chosen.map(|(name, value)| (name.as_str(), value.clone())));
        let lines = settings.iter().map(|(name, value)| format!("{name} = {value}\n"));
        fs::write(self.file("rabbitmq.conf"), lines.collect::<String>())?;
        fs::write(self.file("plugins"), "[rabbitmq_management].\n")?;
        fs::write(self.file("log"), "")?;
        let cookie = self.file(".erlang.cookie");
        if !cookie.exists() {
            fs::write(&cookie, COOKIE)?;
            fs::set_permissions(&cookie, std::os::unix::fs::PermissionsExt::from_mode(0o400))?;
        }
        let mut epmd = self.command(Path::new("epmd"));
        let mapper = Process::start(&mut epmd, &self.file("log"))?;
        *self.mapper.lock().unwrap_or_else(PoisonError::into_inner) = Some(mapper);
        Ok(())
    }

    /// A command with the environment of the server.
    fn command(&self, program: &Path) -> Command {
        let mut command = command::clean(program);
        let Ports { amqp, distribution, mapper, .. } = self.ports;
        command.current_dir(self.guardian.directory());
        command.env("HOME", self.guardian.directory());
        command.env("ERL_EPMD_PORT", mapper.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", NAME).env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODE_PORT", amqp.to_string());
        command.env("RABBITMQ_DIST_PORT", distribution.to_string());
        for (name, file) in [
            ("MNESIA_BASE", "data"),
            ("LOG_BASE", "logs"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("CONFIG_FILE", "rabbitmq.conf"),
            ("ADVANCED_CONFIG_FILE", "advanced.config"),
            ("CONF_ENV_FILE", "rabbitmq-env.conf"),
            ("PID_FILE", "pid"),
            ("GENERATED_CONFIG_DIR", "generated"),
        ] {
            command.env(format!("RABBITMQ_{name}"), self.file(file));
        }
        // Two schedulers that do not spin: tests have few cores and share them.
        let erlang = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none \
                      -kernel inet_dist_use_interface {127,0,0,1}";
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang);
        command
    }

    /// Starts the broker and returns when it accepts connections.
    fn launch(&self) -> Result<(), String> {
        let mut server = self.command(&self.scripts.join("rabbitmq-server"));
        let mut process =
            Process::start(&mut server, &self.file("log")).map_err(|error| error.to_string())?;
        let deadline = Instant::now() + START;
        while !self.is_ready() {
            if let Some(status) = process.ended() {
                return Err(format!("it ended while it started, with {status}"));
            }
            if Instant::now() > deadline {
                return Err(format!("it was not ready within {START:?}"));
            }
            thread::sleep(LOOK);
        }
        *self.broker() = Some(process);
        Ok(())
    }

    /// The check of a port answers only after the broker has opened it; they open one by one.
    fn is_ready(&self) -> bool {
        let Ports { amqp, amqps, .. } = self.ports;
        let mut ports = [Some(amqp), self.tls.as_ref().map(|_| amqps)].into_iter().flatten();
        ports.all(|port| {
            let path = format!("/api/health/checks/port-listener/{port}");
            self.ask("GET", &path, "").is_ok_and(|(status, _)| status == 200)
        })
    }

    fn port_was_taken(&self) -> bool {
        let log = self.log();
        log.contains("eaddrinuse") || log.contains("ddress already in use")
    }
}

/// Where the scripts of the server are.
pub(super) fn place() -> Result<PathBuf, String> {
    let packaged = Some(PathBuf::from(SCRIPTS)).filter(|folder| is_server(folder));
    let on_path = || command::find("rabbitmq-server").and_then(|file| Some(file.parent()?.into()));
    let scripts = packaged.or_else(on_path).ok_or("RabbitMQ is not installed")?;
    command::find("epmd").map(|_| scripts).ok_or_else(|| "Erlang's epmd is not installed".into())
}

fn is_server(folder: &Path) -> bool {
    folder.join("rabbitmq-server").is_file()
}
