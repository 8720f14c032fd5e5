//! A process that holds servers until it is told to end, or killed: says where their directories
//! are, one a line, and then an empty line. With the argument `paused`, the servers are.

use std::io::{Read, Write, stdin, stdout};

use posthaste_servers::{Postgres, RabbitMq};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let paused = std::env::args().any(|argument| argument == "paused");
    let mut directories = Vec::new();
    if Postgres::missing().is_none() {
        let postgres = Postgres::shared().await;
        directories.push(postgres.directory());
        if paused {
            postgres.pause().await;
        }
    }
    if RabbitMq::missing().is_none() {
        let rabbitmq = RabbitMq::shared().await;
        directories.push(rabbitmq.directory());
        if paused {
            rabbitmq.pause().await;
        }
    }
    let mut output = stdout().lock();
    for directory in directories {
        writeln!(output, "{}", directory.display())?;
    }
    writeln!(output)?;
    output.flush()?;
    stdin().lock().read_to_end(&mut Vec::new()).map(|_| ())
}
